//! What the verbs need and the bench does not have: models and pictures.

use arrakis_core::{Draw, Model};

use super::Options;
use super::console::Console;
use crate::{Bench, Load};

/// What a program brings to the verbs.
#[derive(Clone, Copy)]
pub struct Plugged<'a> {
    /// Who loads models.
    pub load: &'a dyn Load,
    /// Who draws, if anybody does.
    pub draw: Option<&'a (dyn Draw + Sync)>,
}

impl Plugged<'_> {
    /// A bench for a model of that name, as the options have it, that draws if anybody does.
    pub(crate) fn bench<'b>(
        &'b self,
        model: &'b dyn Model,
        name: &str,
        options: &Options,
        console: &'b Console<'_>,
    ) -> Bench<'b> {
        let bench = options.bench(model, name, console);
        match self.draw {
            Some(draw) => bench.draw(draw),
            None => bench,
        }
    }
}
