//! A corpus read through a model, in batches of windows; and the loss over one.

use arrakis_core::{Context, Corpus, Error, Result, Tokens, Window, loss_by_row};
use tch::{Kind, Tensor};

/// Tokens of one pass where no memory bound asks for fewer.
const AT_ONCE: usize = 2048;

/// Tokens of a window where nothing else is said and the context holds as many.
const WIDTH: usize = 256;

/// A corpus cut into windows, with how many are read at once.
pub(crate) struct CorpusPass {
    /// From the shortest to the longest.
    windows: Vec<Window>,
    /// Tokens before each window.
    starts: Vec<usize>,
    rows: usize,
    tokens: usize,
    /// Tokens at the start of each window that are read and not counted.
    skip: usize,
}

/// Windows that are read in one pass.
pub(crate) struct Batch<'a> {
    /// Tokens that were read before this batch.
    pub(crate) first: usize,
    /// Which windows.
    pub(crate) windows: &'a [Window],
    /// Their ids.
    pub(crate) tokens: Tokens,
    /// Where the tokens that count are among `batch * pos`, in order: `[token]`.
    pub(crate) places: Tensor,
}

impl Batch<'_> {
    /// The batch of `windows`, before which `first` tokens were read, without the `skip` first tokens of each.
    pub(crate) fn of(windows: &[Window], first: usize, skip: usize) -> Result<Batch<'_>> {
        let tokens = Window::batch(windows)?;
        let len = tokens.positions();
        let real = windows.iter().enumerate().flat_map(|(row, window)| row * len + skip..row * len + window.ids.len());
        let places: Vec<i64> = real.map(|place| place as i64).collect();
        Ok(Batch { first, windows, tokens, places: Tensor::f_from_slice(&places)? })
    }
}

impl CorpusPass {
    /// The passes over `corpus` in windows of `width` tokens; `held` numbers are held for each token of a pass.
    pub(crate) fn of(cx: &Context<'_>, corpus: &Corpus, width: Option<usize>, held: usize) -> Result<Self> {
        let model = cx.model();
        let width = width.unwrap_or(WIDTH.min(model.dims().context));
        let windows = corpus.windows(model, width)?;
        Ok(Self::in_batches(cx, windows, width, held))
    }

    /// As [`of`](CorpusPass::of), without windows of a single token, which predict nothing.
    pub(crate) fn of_predictions(cx: &Context<'_>, corpus: &Corpus, width: Option<usize>) -> Result<Self> {
        // The logits, their logarithms, and what they were made of.
        let held = 3 * cx.model().dims().vocab;
        let whole = Self::of(cx, corpus, width, held)?;
        let windows: Vec<Window> = whole.windows.into_iter().filter(|window| window.ids.len() > 1).collect();
        if windows.is_empty() {
            let why = "every window has a single token, and the first has nothing before it; a loss needs two".into();
            return Err(Error::Invalid { what: "corpus".into(), why });
        }
        let width = windows.iter().map(|window| window.ids.len()).max().unwrap_or(1);
        Ok(Self::in_batches(cx, windows, width, held))
    }

    /// The passes over texts, each whole; `held` numbers are held for each token of a pass.
    pub(crate) fn of_texts(cx: &Context<'_>, texts: &[Vec<i64>], held: usize) -> Self {
        let window = |(document, ids): (usize, &Vec<i64>)| Window { document, start: 0, ids: ids.clone() };
        let width = texts.iter().map(Vec::len).max().unwrap_or(1);
        Self::in_batches(cx, texts.iter().enumerate().map(window).collect(), width, held)
    }

    fn in_batches(cx: &Context<'_>, mut windows: Vec<Window>, width: usize, held: usize) -> Self {
        // A batch has windows of one length: nothing is padded, and where the rotation depends on the length of the
        // text, a window is read as it would be alone.
        windows.sort_by_key(|window| window.ids.len());
        let row_bytes = (width * held.max(1) * cx.model().kind().elt_size_in_bytes().max(8)) as u64;
        let allowed = cx.memory_limit().map_or(usize::MAX, |limit| (limit / row_bytes) as usize);
        let rows = (AT_ONCE / width).min(allowed).max(1);
        Self { starts: Vec::new(), windows, rows, tokens: 0, skip: 0 }.counted()
    }

    fn counted(mut self) -> Self {
        (self.starts, self.tokens) = (Vec::with_capacity(self.windows.len()), 0);
        for window in &self.windows {
            self.starts.push(self.tokens);
            self.tokens += window.ids.len() - self.skip;
        }
        self
    }

    /// The same passes without the `skip` first tokens of each window; an error if no token is left.
    pub(crate) fn without_first(mut self, skip: usize) -> Result<Self> {
        self.skip = skip;
        self.windows.retain(|window| window.ids.len() > skip);
        if self.windows.is_empty() {
            let why = format!("no window has more than the {skip} tokens that are left out; give longer texts");
            return Err(Error::Invalid { what: format!("skip {skip}"), why });
        }
        Ok(self.counted())
    }

    /// Tokens of the corpus.
    pub(crate) const fn tokens(&self) -> usize {
        self.tokens
    }

    /// An error if there are fewer than `least` tokens.
    pub(crate) fn at_least(self, least: usize) -> Result<Self> {
        if self.tokens >= least {
            return Ok(self);
        }
        let why = format!("it has {} tokens and {least} are needed; give more text", self.tokens);
        Err(Error::Invalid { what: "corpus".into(), why })
    }

    /// The window of a token, counted in the order of reading, and its place there.
    pub(crate) fn place(&self, token: usize) -> (&Window, usize) {
        let window = self.starts.partition_point(|start| *start <= token).saturating_sub(1);
        (&self.windows[window], token - self.starts[window] + self.skip)
    }

    /// Goes through the corpus, batch by batch, from the shortest windows to the longest.
    pub(crate) fn each(&self, cx: &Context<'_>, mut read: impl FnMut(&Batch<'_>) -> Result<()>) -> Result<()> {
        let mut done = 0;
        let alike = self.windows.chunk_by(|a, b| a.ids.len() == b.ids.len());
        for windows in alike.flat_map(|windows| windows.chunks(self.rows)) {
            cx.progress(done as u64, self.tokens as u64)?;
            let batch = Batch::of(windows, done, self.skip)?;
            read(&batch)?;
            done += windows.iter().map(|window| window.ids.len() - self.skip).sum::<usize>();
        }
        cx.progress(self.tokens as u64, self.tokens as u64)
    }
}

/// Cross entropy over a corpus, gathered batch by batch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CorpusLoss {
    sum: f64,
    predictions: usize,
}

impl CorpusLoss {
    /// Adds the predictions of a batch, from its logits at every position.
    pub(crate) fn add(&mut self, logits: &Tensor, batch: &Batch<'_>) -> Result<()> {
        let losses = arrakis_core::answer::numbers(&loss_by_row(&logits.f_to_kind(Kind::Double)?, &batch.tokens)?)?;
        for (loss, window) in losses.into_iter().zip(batch.windows) {
            let predictions = window.ids.len() - 1;
            self.sum += loss * predictions as f64;
            self.predictions += predictions;
        }
        Ok(())
    }

    /// The mean over all predictions, in nats.
    pub(crate) fn mean(&self) -> f64 {
        self.sum / self.predictions as f64
    }
}
