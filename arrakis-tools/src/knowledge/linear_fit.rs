//! Linear classifiers with a squared penalty: logistic regression and ridge regression, one class against the rest.

use arrakis_core::{Error, Result};
use tch::{Kind, Tensor};

use super::probe::ProbeMethod;
use crate::gap;

/// Steps of Newton's method at most; it converges quadratically and needs about ten.
const STEPS: usize = 100;

/// Samples to fit on, centred and scaled to a mean square of 1, with their singular value decomposition.
///
/// A penalised solution lies in the space that the samples span, so every fit works there.
pub(crate) struct Samples {
    /// `[width]`
    centre: Tensor,
    scale: f64,
    /// `[sample, width]`
    x: Tensor,
    /// The samples in the space that they span: `[sample, rank]`.
    z: Tensor,
    /// That space: `[width, rank]`.
    basis: Tensor,
}

/// Classifiers of several classes.
pub(crate) struct LinearFit {
    /// `[class, width]`, of the samples as they came.
    pub(crate) weights: Tensor,
    /// `[class, 1]`
    bias: Tensor,
    /// Greatest absolute entry of a gradient of the mean objective at the solution.
    pub(crate) gradient: f64,
}

impl Samples {
    /// Samples (`[sample, width]`, in double) at a point of that name.
    pub(crate) fn of(samples: &Tensor, point: &str) -> Result<Self> {
        let centre = samples.f_mean_dim(0, false, Kind::Double)?;
        let centred = samples.f_sub(&centre)?;
        let scale = centred.f_square()?.f_mean(Kind::Double)?.f_double_value(&[])?.sqrt();
        if scale < f64::MIN_POSITIVE {
            let why = "they are the same in every text; choose another point or position".into();
            return Err(Error::Invalid { what: format!("activations at `{point}`"), why });
        }
        let x = centred.f_div_scalar(scale)?;
        let (u, s, basis) = x.f_svd(true, true)?;
        let greatest = s.f_max()?.f_double_value(&[])?;
        let rank = s.f_gt(greatest * 1e-12)?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        let z = u.f_mul(&s)?.f_narrow(1, 0, rank)?;
        Ok(Self { centre, scale, x, z, basis: basis.f_narrow(1, 0, rank)? })
    }

    /// Fits each of `classes` classes against the rest, from the class of each sample.
    pub(crate) fn fit(&self, labels: &[usize], classes: usize, method: ProbeMethod, penalty: f64) -> Result<LinearFit> {
        let (mut weights, mut biases, mut gradient) = (Vec::new(), Vec::new(), 0.0);
        let width = self.x.size()[1];
        let options = (Kind::Double, self.x.device());
        for class in 0..classes {
            let targets: Vec<f64> = labels.iter().map(|label| f64::from(u8::from(*label == class))).collect();
            let count = labels.iter().filter(|label| **label == class).count();
            // A class that none or all samples have is never or always the answer.
            if count == 0 || count == labels.len() {
                weights.push(Tensor::f_zeros([width], options)?);
                biases.push(if count == 0 { f64::NEG_INFINITY } else { f64::INFINITY });
                continue;
            }
            let y = Tensor::f_from_slice(&targets)?.f_to_device(self.x.device())?;
            let (v, bias) = match method {
                ProbeMethod::Ridge => self.ridge(&y, penalty)?,
                ProbeMethod::Logistic => self.logistic(&y, penalty)?,
            };
            let w = self.basis.f_mv(&v)?;
            let predicted = method.predicted(&self.x.f_mv(&w)?.f_add_scalar(bias)?)?;
            let wrong = predicted.f_sub(&y)?;
            let by_weight = self.x.f_transpose(0, 1)?.f_mv(&wrong)?.f_add(&w.f_mul_scalar(penalty)?)?;
            let by_bias = wrong.f_sum(Kind::Double)?.f_double_value(&[])?.abs();
            let here = gap::worse(gap::greatest(&by_weight)?, by_bias) / targets.len() as f64;
            gradient = gap::worse(gradient, here);
            let w = w.f_div_scalar(self.scale)?;
            biases.push(bias - w.f_dot(&self.centre)?.f_double_value(&[])?);
            weights.push(w);
        }
        let bias = Tensor::f_from_slice(&biases)?.f_to_device(self.x.device())?.f_unsqueeze(1)?;
        Ok(LinearFit { weights: Tensor::f_stack(&weights, 0)?, bias, gradient })
    }

    /// Minimises `½ |y - z v - b|² + ½ penalty |v|²`.
    fn ridge(&self, y: &Tensor, penalty: f64) -> Result<(Tensor, f64)> {
        // Samples are centred, so the bias is the mean, and their columns here are orthogonal.
        let bias = y.f_mean(Kind::Double)?.f_double_value(&[])?;
        let squares = self.z.f_square()?.f_sum_dim_intlist(0, false, Kind::Double)?;
        let right = self.z.f_transpose(0, 1)?.f_mv(&y.f_sub_scalar(bias)?)?;
        Ok((right.f_div(&squares.f_add_scalar(penalty)?)?, bias))
    }

    /// Minimises the summed cross entropy plus `½ penalty |v|²`, by Newton's method with halved steps.
    fn logistic(&self, y: &Tensor, penalty: f64) -> Result<(Tensor, f64)> {
        let (count, rank) = self.z.size2()?;
        let options = (Kind::Double, self.z.device());
        let design = Tensor::f_cat(&[&self.z, &Tensor::f_ones([count, 1], options)?], 1)?;
        let mut penalties = vec![penalty; rank as usize];
        penalties.push(0.0);
        let penalties = Tensor::f_from_slice(&penalties)?.f_to_device(self.z.device())?;
        let objective = |v: &Tensor| -> Result<f64> {
            let logits = design.f_mv(v)?;
            let loss = logits.f_softplus()?.f_sub(&logits.f_mul(y)?)?.f_sum(Kind::Double)?.f_double_value(&[])?;
            let size = v.f_square()?.f_dot(&penalties)?.f_double_value(&[])?;
            Ok(loss + size / 2.0)
        };
        let mut v = Tensor::f_zeros([rank + 1], options)?;
        let mut best = objective(&v)?;
        for _ in 0..STEPS {
            let p = design.f_mv(&v)?.f_sigmoid()?;
            let gradient = design.f_transpose(0, 1)?.f_mv(&p.f_sub(y)?)?.f_add(&v.f_mul(&penalties)?)?;
            if gap::greatest(&gradient)? <= 1e-13 * count as f64 {
                break;
            }
            let curvature = p.f_mul(&p.f_neg()?.f_add_scalar(1.0)?)?.f_unsqueeze(1)?;
            let hessian = design.f_transpose(0, 1)?.f_matmul(&design.f_mul(&curvature)?)?;
            let hessian = hessian.f_add(&penalties.f_diag(0)?)?;
            let step = Tensor::f_linalg_solve(&hessian, &gradient.f_unsqueeze(1)?, true)?.f_squeeze_dim(1)?;
            let mut length = 1.0;
            loop {
                let next = v.f_sub(&step.f_mul_scalar(length)?)?;
                let value = objective(&next)?;
                // Near the minimum the objective differs by rounding alone.
                if value <= best + 1e-12 * best.abs() {
                    (v, best) = (next, value);
                    break;
                }
                length /= 2.0;
                if length < 1e-10 {
                    return Ok((v.f_narrow(0, 0, rank)?, v.f_double_value(&[rank])?));
                }
            }
        }
        Ok((v.f_narrow(0, 0, rank)?, v.f_double_value(&[rank])?))
    }
}

impl ProbeMethod {
    /// What the target is compared with.
    fn predicted(self, scores: &Tensor) -> Result<Tensor> {
        match self {
            Self::Ridge => Ok(scores.shallow_clone()),
            Self::Logistic => Ok(scores.f_sigmoid()?),
        }
    }
}

impl LinearFit {
    /// The share of samples (`[sample, width]`) whose greatest score is that of their class.
    pub(crate) fn accuracy(&self, samples: &Tensor, labels: &[usize]) -> Result<f64> {
        let scores = self.weights.f_matmul(&samples.f_transpose(0, 1)?)?.f_add(&self.bias)?;
        let found: Vec<i64> = Vec::try_from(scores.f_argmax(0, false)?.f_contiguous()?)?;
        let right = found.iter().zip(labels).filter(|(found, label)| **found == **label as i64).count();
        Ok(right as f64 / labels.len() as f64)
    }
}
