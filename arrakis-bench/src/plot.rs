//! Pictures of what a run kept, by whoever draws for the bench.

use std::path::Path;

use arrakis_core::{Draw, HookPoint, Kept, PlotSpec};

use crate::{Bench, Result};

impl<'a> Bench<'a> {
    /// The hook points of this model that a picture shows; a run must keep them before it is [drawn](Self::plot).
    pub fn plotted(&self, spec: &PlotSpec) -> Result<Vec<HookPoint>> {
        Ok(self.drawing()?.reads(spec, self.model().points())?)
    }

    /// Draws a picture of what a run kept to a file whose ending says how.
    ///
    /// ```no_run
    /// # fn show(bench: &arrakis_bench::Bench, tokens: &arrakis_core::Tokens) -> arrakis_bench::Result<()> {
    /// use arrakis_core::{ModelExt as _, PlotSpec, RowLabels};
    /// let spec = PlotSpec::new("attention").heads([0, 1]);
    /// let mut trace = bench.model().trace(tokens);
    /// for point in bench.plotted(&spec)? {
    ///     trace = trace.keep(point);
    /// }
    /// let labels = RowLabels::of(tokens, spec.row, bench.model())?;
    /// bench.plot(&spec, labels.beside(&trace.run()?.cache), "attention.html".as_ref())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn plot(&self, spec: &PlotSpec, kept: Kept<'_>, file: &Path) -> Result<()> {
        Ok(self.drawing()?.plot(spec, kept, file)?)
    }

    fn drawing(&self) -> Result<&'a dyn Draw> {
        self.draw.ok_or_else(|| {
            let why = "nobody draws for this bench; `.draw(..)` says who".into();
            arrakis_core::Error::Invalid { what: "plot".into(), why }.into()
        })
    }
}
