//! Hosts of an earlier and of a later minor version, as a plugin of this one meets them.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ptr;

use tch::{Device, Kind, Tensor};

use super::abi::{self, Bytes, Host, Point};
use super::crossing::{Grows, read};
use super::guest::Remote;
use super::host::{HOST, Held};
use crate::{
    AxisKind, Dims, HookPoint, Hooks, Input, Model, NormKind, Output, Pass, Residual, Result, Site, WeightPoint,
};

/// A site with an axis of its own.
const LAG: Site = Site::new("attn.hook_lag", &[AxisKind::Batch, AxisKind::Named("lag")]);

/// A model that hands ones through its points.
struct Ones {
    dims: Dims,
    points: Vec<HookPoint>,
}

impl Ones {
    fn new() -> Self {
        let dims = Dims {
            family: "ones".into(),
            n_layers: 1,
            n_heads: 2,
            n_kv_heads: 2,
            d_model: 4,
            d_head: 2,
            d_mlp: 8,
            vocab: 5,
            context: 16,
            norm: NormKind::Rms,
            norm_eps: 1e-5,
            residual: Residual::Serial,
            others: BTreeMap::from([("lag".to_owned(), 3)]),
        };
        Self { dims, points: vec![Site::EMBED.global(), LAG.at(0), Site::RESID_POST.at(0)] }
    }
}

impl Model for Ones {
    fn dims(&self) -> &Dims {
        &self.dims
    }

    fn kind(&self) -> Kind {
        Kind::Float
    }

    fn device(&self) -> Device {
        Device::Cpu
    }

    fn points(&self) -> &[HookPoint] {
        &self.points
    }

    fn forward(&self, pass: Pass<'_>) -> Result<Output> {
        let Input::Tokens(tokens) = pass.input else { unreachable!("the tests start from tokens") };
        let mut residual = Tensor::new();
        for point in &self.points {
            let value = Tensor::f_ones(point.shape(&self.dims, 1, tokens.size()[1]), (Kind::Float, Device::Cpu))?;
            pass.hooks.passed(*point);
            residual = if pass.hooks.watches(*point) { pass.hooks.visit(*point, value)? } else { value };
        }
        Ok(Output { residual, logits: None, past: None })
    }

    fn unembed(&self, residual: &Tensor) -> Result<Tensor> {
        Ok(residual.shallow_clone())
    }

    fn weights(&self) -> Vec<WeightPoint> {
        Vec::new()
    }

    fn weight(&self, weight: WeightPoint) -> Result<Tensor> {
        Err(crate::unknown_weight(&weight.to_string(), &[]))
    }

    fn with_weights(&self, _: Vec<(WeightPoint, Tensor)>) -> Result<Box<dyn Model>> {
        Ok(Box::new(Self::new()))
    }

    fn encode(&self, text: &str) -> Result<Vec<i64>> {
        Ok(vec![text.len() as i64])
    }

    fn token_id(&self, text: &str) -> Result<i64> {
        Ok(text.len() as i64)
    }

    fn decode(&self, tokens: &[i64]) -> Result<String> {
        Ok(format!("{tokens:?}"))
    }

    fn digest(&self) -> Result<String> {
        Ok("of ones".into())
    }

    fn tokenizer_digest(&self) -> Result<Option<String>> {
        Ok(Some("of lengths".into()))
    }

    fn layout(&self) -> Option<&'static str> {
        Some("flat")
    }
}

/// Watches everything, doubles it, and notes what it hears.
#[derive(Default)]
struct Doubling(Vec<String>);

impl Hooks for Doubling {
    fn watches(&self, _: HookPoint) -> bool {
        true
    }

    fn visit(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor> {
        self.0.push(format!("{point} {:?}", value.size()));
        Ok(value.f_mul_scalar(2.0)?)
    }

    fn passed(&mut self, point: HookPoint) {
        self.0.push(format!("passed {point}"));
    }
}

/// What a plugin sees of the model through a host's table.
fn seen<T>(host: *const Host, look: impl FnOnce(&dyn Model) -> T) -> T {
    let (ones, held);
    ones = Ones::new();
    held = Held::lent(&ones);
    // SAFETY: the table tells its size, and the model outlives the look at it.
    let remote = unsafe { Remote::lent(read(host).unwrap(), held.handle()) }.unwrap();
    look(&remote)
}

fn doubled(model: &dyn Model) -> Vec<String> {
    let tokens = Tensor::from_slice(&[1_i64, 2]).unsqueeze(0);
    let mut hooks = Doubling::default();
    let output = model.forward(Pass::tokens(&tokens, &mut hooks)).unwrap();
    assert_eq!(output.residual, Tensor::full([1, 2, 4], 2.0, (Kind::Float, Device::Cpu)));
    hooks.0
}

#[test]
fn this_host_tells_all_there_is() {
    seen(&raw const HOST, |model| {
        let ones = Ones::new();
        assert_eq!((model.dims(), model.points()), (ones.dims(), ones.points()));
        assert_eq!((model.tokenizer_digest().unwrap(), model.layout()), (Some("of lengths".into()), Some("flat")));
        let words = [
            "passed hook_embed",
            "hook_embed [1, 2, 4]",
            "passed blocks.0.attn.hook_lag",
            "blocks.0.attn.hook_lag [1, 3]",
            "passed blocks.0.hook_resid_post",
            "blocks.0.hook_resid_post [1, 2, 4]",
        ];
        assert_eq!(doubled(model), words);
    });
}

/// The first bytes of a struct, which is all that an older side has of it.
fn first<T: Grows>(value: &T) -> Vec<u64> {
    let mut words = vec![0_u64; T::FIRST / 8];
    // SAFETY: both hold as many bytes.
    unsafe { ptr::copy_nonoverlapping(ptr::from_ref(value).cast::<u8>(), words.as_mut_ptr().cast(), T::FIRST) };
    words[0] = T::FIRST as u64;
    words
}

/// A `Point` of ABI 1.0.
#[repr(C)]
struct FirstPoint(abi::Str, *const u8, usize, i64);

#[test]
fn an_older_host_has_what_it_had() {
    /// Fills as much of the struct as a host of 1.0 knows.
    unsafe extern "C" fn dims(model: *const abi::Model, to: *mut abi::Dims, why: *mut Bytes) -> u32 {
        // SAFETY: the plugin gives room for more than that.
        unsafe {
            let mut all = std::mem::zeroed::<abi::Dims>();
            all.size = abi::Dims::FIRST;
            let status = (HOST.dims.unwrap())(model, &raw mut all, why);
            let told = first(&all);
            ptr::copy_nonoverlapping(told[1..].as_ptr(), to.cast::<u64>().add(1), told.len() - 1);
            status
        }
    }

    unsafe extern "C" fn points(model: *const abi::Model, to: *mut abi::Points, why: *mut Bytes) -> u32 {
        // SAFETY: the plugin gives room for the points, and takes them by their stride.
        unsafe {
            let status = (HOST.points.unwrap())(model, to, why);
            let told: &[Point] = std::slice::from_raw_parts((*to).items, (*to).count);
            let told = told.iter().map(|point| FirstPoint(point.site, point.axes, point.axis_count, point.layer));
            // They last as long as the model and longer.
            (*to).items = told.collect::<Vec<_>>().leak().as_ptr().cast();
            (*to).stride = size_of::<FirstPoint>();
            status
        }
    }

    let table = first(&Host { minor: 0, dims: Some(dims), points: Some(points), ..HOST });
    seen(table.as_ptr().cast(), |model| {
        let ones = Ones::new();
        assert_eq!(*model.dims(), Dims { others: BTreeMap::new(), ..ones.dims().clone() });
        // It tells no name for the axis, so the point that has it is left out, and the others keep their places.
        assert_eq!(model.points(), [Site::EMBED.global(), Site::RESID_POST.at(0)]);
        assert_eq!((model.tokenizer_digest().unwrap(), model.layout()), (None, None));
        assert!(doubled(model).iter().all(|words| !words.contains("hook_lag")));
    });
}

/// A `Point` of a later version.
#[repr(C)]
struct LaterPoint(Point, [u64; 3]);

#[test]
fn a_later_host_may_have_more() {
    /// The number of an axis that comes later.
    const LATER_AXIS: [u8; 2] = [abi::AXIS_BATCH, 77];

    unsafe extern "C" fn points(model: *const abi::Model, to: *mut abi::Points, why: *mut Bytes) -> u32 {
        // SAFETY: as for an older host.
        unsafe {
            let status = (HOST.points.unwrap())(model, to, why);
            let told: &[Point] = std::slice::from_raw_parts((*to).items, (*to).count);
            let mut told: Vec<_> = told.iter().map(|point| LaterPoint(*point, [u64::MAX; 3])).collect();
            told[0].0.axes = LATER_AXIS.as_ptr();
            told[0].0.axis_count = LATER_AXIS.len();
            (*to).items = told.leak().as_ptr().cast();
            (*to).stride = size_of::<LaterPoint>();
            status
        }
    }

    #[repr(C)]
    struct LaterHost(Host, [u64; 4]);
    let host = Host { size: size_of::<LaterHost>(), minor: 9, points: Some(points), ..HOST };
    let table = LaterHost(host, [u64::MAX; 4]);
    seen(ptr::from_ref(&table).cast(), |model| {
        assert_eq!(model.points(), [LAG.at(0), Site::RESID_POST.at(0)]);
        assert_eq!(model.dims().others["lag"], 3);
        let heard = doubled(model);
        assert!(heard.contains(&"blocks.0.attn.hook_lag [1, 3]".to_owned()), "{heard:?}");
        assert!(heard.iter().all(|words| !words.contains("hook_embed")), "{heard:?}");
    });
}
