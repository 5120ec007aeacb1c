//! The pairs of a relation, and what a head's bilinear form makes of them.

use std::collections::BTreeSet;

use arrakis_core::{Error, Model, Result};
use tch::{Kind, Tensor};

use super::TypedRelation;
use super::tokens::ends_of_form;
use crate::lags::Lags;
use crate::{Circuit, gap};

/// The pairs of a relation as a table of its subjects and objects.
pub(super) struct Pairs {
    subjects: Vec<i64>,
    objects: Vec<i64>,
    /// Whether a subject goes with an object: `[subject, object]`.
    together: Tensor,
}

/// What a head makes of a relation.
pub(super) struct HeadScore {
    pub(super) auc: f64,
    pub(super) true_mean: f64,
    pub(super) shuffled_mean: f64,
}

impl Pairs {
    pub(super) fn of(model: &dyn Model, relation: &TypedRelation) -> Result<Self> {
        let invalid = |why: &str| Error::Invalid { what: format!("relation `{}`", relation.name), why: why.into() };
        if relation.pairs.is_empty() {
            return Err(invalid("it has no pairs; give at least two"));
        }
        let pairs = relation.pairs.iter().map(|(subject, object)| Ok((subject.id(model)?, object.id(model)?)));
        let pairs: BTreeSet<(i64, i64)> = pairs.collect::<Result<_>>()?;
        let distinct = |ids: BTreeSet<i64>| ids.into_iter().collect::<Vec<_>>();
        let subjects = distinct(pairs.iter().map(|pair| pair.0).collect());
        let objects = distinct(pairs.iter().map(|pair| pair.1).collect());
        if pairs.len() == subjects.len() * objects.len() {
            return Err(invalid(
                "every subject goes with every object, so no shuffled pair is left; give pairs with other subjects and \
                 objects",
            ));
        }
        let of_subject = |subject: &i64| objects.iter().map(|object| pairs.contains(&(*subject, *object))).collect();
        let together: Vec<Vec<bool>> = subjects.iter().map(of_subject).collect();
        let together = Tensor::f_from_slice(&together.concat())?.f_to_device(model.device())?;
        let together = together.f_view([subjects.len() as i64, objects.len() as i64])?;
        Ok(Self { subjects, objects, together })
    }

    /// What each head of a layer makes of the pairs, and the gap of the means.
    pub(super) fn scores(
        &self,
        model: &dyn Model,
        circuit: Circuit,
        layer: usize,
        lags: Option<Lags>,
    ) -> Result<(Vec<HeadScore>, f64)> {
        let circuits = circuit.of_layer(model, layer, lags)?;
        let (left, right) = ends_of_form(model, circuit, &self.subjects, &self.objects)?;
        let forms = circuits.left_matmul(&left)?.matmul(&right)?;
        let (left, right) = (left.f_mean_dim(0, true, Kind::Double)?, right.f_mean_dim(1, true, Kind::Double)?);
        let means = circuits.left_matmul(&left)?.matmul(&right)?.dense()?;
        let mut worst = 0.0;
        let mut scores = Vec::new();
        for head in 0..means.size()[0] {
            let table = forms.get(head)?.dense()?;
            let mean = table.f_mean(Kind::Double)?;
            worst = gap::worse(worst, gap::gap(&mean, &means.f_get(head)?)?);
            scores.push(self.score(&table)?);
        }
        Ok((scores, worst))
    }

    /// What a head makes of the pairs, from its form of every subject with every object (`[subject, object]`).
    fn score(&self, forms: &Tensor) -> Result<HeadScore> {
        let with = forms.f_masked_select(&self.together)?;
        let (without, _) = forms.f_masked_select(&self.together.f_logical_not()?)?.f_sort(0, false)?;
        let number = |value: Tensor| value.f_double_value(&[]);
        let below = with.f_searchsorted(&without, false, false, "left", None::<Tensor>)?;
        let not_above = with.f_searchsorted(&without, false, true, "right", None::<Tensor>)?;
        let wins = number(below.f_add(&not_above)?.f_to_kind(Kind::Double)?.f_sum(Kind::Double)?)? / 2.0;
        let (true_mean, shuffled_mean) = (number(with.f_mean(Kind::Double)?)?, number(without.f_mean(Kind::Double)?)?);
        let auc = wins / (with.numel() * without.numel()) as f64;
        // NaN has no order, so it would pass for a number here.
        let auc = if (true_mean + shuffled_mean).is_nan() { f64::NAN } else { auc };
        Ok(HeadScore { auc, true_mean, shuffled_mean })
    }
}
