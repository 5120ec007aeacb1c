//! Sites and weights by the names that a host tells: known ones as they are, others remembered.

use std::sync::{Mutex, PoisonError};

use crate::{AxisKind, Site, Weight};

/// The site of that name and those axes.
pub(super) fn site(name: &str, axes: &[AxisKind]) -> Site {
    static TOLD: Mutex<Vec<Site>> = Mutex::new(Vec::new());
    let same = |site: &&Site| site.name() == name && site.axes() == axes;
    if let Some(site) = Site::ALL.iter().find(same) {
        return *site;
    }
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(site) = told.iter().find(same) {
        return *site;
    }
    // A model has few sites of its own, and each is remembered once.
    let site = Site::new(name.to_owned().leak(), axes.to_vec().leak());
    told.push(site);
    site
}

/// The weight of that name.
pub(super) fn weight(name: &str) -> Weight {
    static TOLD: Mutex<Vec<Weight>> = Mutex::new(Vec::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(weight) = told.iter().find(|weight| weight.name() == name) {
        return *weight;
    }
    let weight = Weight::new(name.to_owned().leak());
    told.push(weight);
    weight
}
