//! The numbers of a stack of models that differ in nothing else, as one tensor and as its parts.

use std::sync::Arc;

use arrakis_core::{Error, Result, Stream};
use tch::{Kind, Tensor};

use crate::Config;
use crate::layout::{Layout, Parameter, Role, Start};

/// The parameters of a stack of models: `[stack, …]` each, all of them views of one tensor.
#[derive(Debug)]
pub(crate) struct Parameters {
    pub(crate) layout: Arc<Layout>,
    /// All numbers: `[stack, count]`.
    pub(crate) flat: Tensor,
    parts: Vec<Tensor>,
}

impl Parameters {
    /// The parts of `flat` (`[stack, count]`), which share its memory.
    pub(crate) fn of(layout: Arc<Layout>, flat: Tensor) -> Result<Self> {
        let stack = flat.size()[0];
        let part = |parameter: &Parameter| -> Result<Tensor> {
            let shape = [&[stack], &parameter.shape[..]].concat();
            Ok(flat.f_narrow(1, parameter.first, parameter.len())?.f_view(&shape[..])?)
        };
        let parts = layout.parameters.iter().map(part).collect::<Result<_>>()?;
        Ok(Self { layout, flat, parts })
    }

    /// New models, one for each seed, in single precision on the CPU.
    pub(crate) fn new(config: &Config, seeds: &[u64]) -> Result<Self> {
        let layout = Arc::new(Layout::of(config));
        let rows = seeds.iter().map(|seed| start(&layout, *seed)).collect::<Result<Vec<Tensor>>>()?;
        let flat = Tensor::f_stack(&rows, 0)?.f_to_kind(Kind::Float)?;
        Self::of(layout, flat)
    }

    /// The same numbers, each part a leaf whose gradient LibTorch records; memory is shared with `flat`.
    pub(crate) fn recorded(&self) -> Result<Self> {
        let part = |part: &Tensor| -> Result<Tensor> { Ok(part.f_detach()?.f_set_requires_grad(true)?) };
        Ok(Self {
            layout: Arc::clone(&self.layout),
            flat: self.flat.shallow_clone(),
            parts: self.parts.iter().map(part).collect::<Result<_>>()?,
        })
    }

    /// The same numbers in another kind; gradients go through to the parts that are recorded.
    pub(crate) fn cast(&self, kind: Kind) -> Result<Self> {
        let cast = |part: &Tensor| -> Result<Tensor> { Ok(part.f_to_kind(kind)?) };
        Ok(Self {
            layout: Arc::clone(&self.layout),
            flat: cast(&self.flat)?,
            parts: self.parts.iter().map(cast).collect::<Result<_>>()?,
        })
    }

    /// The models of the stack.
    pub(crate) fn stack(&self) -> i64 {
        self.flat.size()[0]
    }

    /// Every part, in the order of the layout.
    pub(crate) fn parts(&self) -> &[Tensor] {
        &self.parts
    }

    /// A part that the layout has.
    pub(crate) fn get(&self, role: Role, layer: Option<usize>) -> Result<&Tensor> {
        let part = self.layout.place(role, layer).and_then(|place| self.parts.get(place));
        part.ok_or_else(|| Error::Invalid { what: "model".into(), why: format!("it has no {role:?} in {layer:?}") })
    }
}

/// The first numbers of one model, in double: `[count]`.
fn start(layout: &Layout, seed: u64) -> Result<Tensor> {
    let mut parts = Vec::new();
    for parameter in &layout.parameters {
        let mut stream = Stream::new(seed, &format!("start {:?} {:?}", parameter.role, parameter.layer));
        let options = (Kind::Double, tch::Device::Cpu);
        let part = match parameter.start {
            Start::Zeros => Tensor::f_zeros(&parameter.shape, options)?,
            Start::Ones => Tensor::f_ones(&parameter.shape, options)?,
            Start::Normal(deviation) => stream.normals(&parameter.shape)?.f_mul_scalar(deviation)?,
            Start::ZeroLag(deviation) => zero_lag(&mut stream, &parameter.shape, deviation)?,
        };
        parts.push(part.f_view([-1])?);
    }
    Ok(Tensor::f_cat(&parts, 0)?)
}

/// Lag weights (`[head, …, lag]`): 1 at lag zero of the first term, a little of everything else.
fn zero_lag(stream: &mut Stream, shape: &[i64], deviation: f64) -> Result<Tensor> {
    let noise = stream.normals(shape)?.f_mul_scalar(deviation)?;
    let (heads, lags) = (shape[0], shape[shape.len() - 1]);
    let by_term = noise.f_view([heads, -1, lags])?;
    // The rest of the first term keeps its noise; lag zero is exactly 1, so that a window of one is attention.
    let _ = by_term.f_narrow(1, 0, 1)?.f_narrow(2, 0, 1)?.f_fill_(1.0)?;
    Ok(noise)
}
