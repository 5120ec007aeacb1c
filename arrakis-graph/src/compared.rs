//! Two grids side by side in one scale, and their difference in its own.

use arrakis_core::Grid;

use crate::colour::Ramp;
use crate::heatmap::scene_of;
use crate::picture::Picture;
use crate::scene::Scene;
use crate::theme::Theme;
use crate::{Error, Result};

/// The room between the pictures.
const GAP: f64 = 24.0;

/// Two grids of the same rows and columns.
#[derive(Debug, Clone)]
pub(crate) struct Compared {
    pub(crate) title: String,
    pub(crate) first: Grid,
    pub(crate) second: Grid,
}

impl Compared {
    /// The second less the first.
    fn difference(&self) -> Result<Grid> {
        let (a, b) = (&self.first, &self.second);
        if a.rows.labels != b.rows.labels || a.columns.labels != b.columns.labels {
            return Err(Error::Unlike {
                title: self.title.clone(),
                first: format!("{} × {}", a.rows.len(), a.columns.len()),
                second: format!("{} × {}", b.rows.len(), b.columns.len()),
            });
        }
        let values = a.values.iter().zip(&b.values).map(|(a, b)| b - a).collect();
        let value = format!("{}, difference", a.value);
        Ok(Grid::new("second less first", value, a.rows.clone(), a.columns.clone(), values)?.diverging())
    }
}

impl Picture for Compared {
    fn title(&self) -> &str {
        &self.title
    }

    fn scene(&self, theme: &Theme) -> Result<Scene> {
        let difference = self.difference()?;
        let both: Vec<f64> = [&self.first.values[..], &self.second.values].concat();
        let grids = [(&self.first, &both), (&self.second, &both), (&difference, &difference.values)];
        // Beside each other where they are narrow, else one below the other.
        let wide = self.first.columns.len() <= 14 && self.first.cells.is_none();
        let third =
            Theme { width: if wide { ((theme.width + GAP) / 3.0).max(240.0) } else { theme.width }, ..theme.clone() };
        let mut scene = Scene::default();
        let (mut x, mut y) = (0.0, 0.0);
        for (grid, range) in grids {
            let panel = scene_of(grid, Ramp::over(range.iter().copied(), grid.scale), &third)?.unframed();
            let (width, height) = (panel.width, panel.height);
            scene.append(panel, (x, y));
            scene.width = scene.width.max(x + width);
            scene.height = scene.height.max(y + height);
            if wide { x += width + GAP } else { y += height + GAP }
        }
        Ok(scene.framed(&self.title, &[], theme))
    }
}
