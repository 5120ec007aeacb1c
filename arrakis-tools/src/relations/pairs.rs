//! The pairs of a relation, and what a head's bilinear form makes of them.

use std::collections::HashSet;

use arrakis_core::{Error, Model, Result, answer};
use tch::{Kind, Tensor};

use super::TypedRelation;
use super::tokens::ends_of_form;
use crate::{Circuit, gap};

/// The pairs of a relation as a table of its subjects and objects.
pub(super) struct Pairs {
    subjects: Vec<i64>,
    objects: Vec<i64>,
    /// Whether a subject goes with an object: `subjects * objects`, subject by subject.
    together: Vec<bool>,
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
        let pairs: HashSet<(i64, i64)> = pairs.collect::<Result<_>>()?;
        let sorted = |ids: HashSet<i64>| {
            let mut ids: Vec<i64> = ids.into_iter().collect();
            ids.sort_unstable();
            ids
        };
        let subjects = sorted(pairs.iter().map(|pair| pair.0).collect());
        let objects = sorted(pairs.iter().map(|pair| pair.1).collect());
        let together: Vec<bool> = subjects
            .iter()
            .flat_map(|subject| objects.iter().map(|object| pairs.contains(&(*subject, *object))))
            .collect();
        if together.iter().all(|together| *together) {
            return Err(invalid(
                "every subject goes with every object, so no shuffled pair is left; give pairs with other subjects and \
                 objects",
            ));
        }
        Ok(Self { subjects, objects, together })
    }

    /// What each head of a layer makes of the pairs, and the gap of the means.
    pub(super) fn scores(&self, model: &dyn Model, circuit: Circuit, layer: usize) -> Result<(Vec<HeadScore>, f64)> {
        let circuits = circuit.of_layer(model, layer)?;
        let (left, right) = ends_of_form(model, circuit, &self.subjects, &self.objects)?;
        let forms = circuits.left_matmul(&left)?.matmul(&right)?;
        let (left, right) = (left.f_mean_dim(0, true, Kind::Double)?, right.f_mean_dim(1, true, Kind::Double)?);
        let means = circuits.left_matmul(&left)?.matmul(&right)?.dense()?;
        let mut worst = 0.0;
        let mut scores = Vec::new();
        for head in 0..means.size()[0] {
            let table: Tensor = forms.get(head)?.dense()?;
            let mean = table.f_mean(Kind::Double)?;
            worst = gap::worse(worst, gap::gap(&mean, &means.f_get(head)?)?);
            scores.push(self.score(&answer::numbers(&table)?));
        }
        Ok((scores, worst))
    }

    /// What a head makes of the pairs, from its form of every subject with every object.
    fn score(&self, forms: &[f64]) -> HeadScore {
        let side = |wanted: bool| -> Vec<f64> {
            let chosen = forms.iter().zip(&self.together).filter(|(_, together)| **together == wanted);
            chosen.map(|(form, _)| *form).collect()
        };
        let (with, mut without) = (side(true), side(false));
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (true_mean, shuffled_mean) = (mean(&with), mean(&without));
        without.sort_by(f64::total_cmp);
        let beaten = |form: &f64| {
            let below = without.partition_point(|other| other < form);
            let not_above = without.partition_point(|other| other <= form);
            (below + not_above) as f64 / 2.0
        };
        let wins: f64 = with.iter().map(beaten).sum();
        let auc = wins / (with.len() * without.len()) as f64;
        let auc = if (true_mean + shuffled_mean).is_nan() { f64::NAN } else { auc };
        HeadScore { auc, true_mean, shuffled_mean }
    }
}
