//! Sites, weights and axes by the names that a host tells: known ones as they are, others remembered.

use std::sync::{Mutex, PoisonError};

use crate::{AxisKind, Site, Weight};

/// A text that lasts as long as the program; each is kept once.
pub(in super::super) fn remembered(text: &str) -> &'static str {
    static TOLD: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = told.iter().find(|known| **known == text) {
        return known;
    }
    let text: &'static str = text.to_owned().leak();
    told.push(text);
    text
}

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
    let site = Site::new(remembered(name), axes.to_vec().leak());
    told.push(site);
    site
}

/// The weight of that name.
pub(super) fn weight(name: &str) -> Weight {
    Weight::new(remembered(name))
}
