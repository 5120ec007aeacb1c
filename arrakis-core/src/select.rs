//! Choosing hook points: by site, by point, or by name with `*`.

use crate::{Error, HookPoint, Result, Site, nearest_name};

/// A choice of hook points.
///
/// A site chooses it in every layer, a point chooses itself, and a text is a printed name in which `*` stands for
/// anything: `"blocks.*.attn.hook_pattern"`, `"blocks.3.*"`, `"*hook_resid_post"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// A site, wherever it is.
    Site(Site),
    /// One point.
    Point(HookPoint),
    /// A printed name, with `*` for anything.
    Name(String),
}

impl Selector {
    /// The chosen points among `points`, in their order; an error that names the nearest if there are none.
    pub fn resolve(&self, points: &[HookPoint]) -> Result<Vec<HookPoint>> {
        let chosen: Vec<HookPoint> = points.iter().copied().filter(|point| self.chooses(*point)).collect();
        if chosen.is_empty() {
            return Err(self.unknown(points));
        }
        Ok(chosen)
    }

    fn chooses(&self, point: HookPoint) -> bool {
        match self {
            Self::Site(site) => point.site == *site,
            Self::Point(wanted) => point == *wanted,
            Self::Name(pattern) => matches(pattern, &point.to_string()),
        }
    }

    fn unknown(&self, points: &[HookPoint]) -> Error {
        let name = match self {
            Self::Site(site) => site.to_string(),
            Self::Point(point) => point.to_string(),
            Self::Name(name) => name.clone(),
        };
        let known: Vec<String> = points.iter().map(ToString::to_string).collect();
        let nearest = match known.iter().position(|point| point.ends_with(&format!(".{name}"))) {
            Some(place) => Some(known[place].clone()),
            None => nearest_name(&name, known.iter().map(String::as_str)),
        };
        Error::UnknownPoint { name, nearest }
    }
}

/// Whether `name` matches `pattern`, in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some(place) = rest.find(piece) else { return false };
        rest = &rest[place + piece.len()..];
    }
    rest.ends_with(last)
}

impl From<Site> for Selector {
    fn from(site: Site) -> Self {
        Self::Site(site)
    }
}

impl From<HookPoint> for Selector {
    fn from(point: HookPoint) -> Self {
        Self::Point(point)
    }
}

impl From<&str> for Selector {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<String> for Selector {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl From<&String> for Selector {
    fn from(name: &String) -> Self {
        Self::Name(name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn star_stands_for_anything() {
        assert!(matches("blocks.*.attn.hook_pattern", "blocks.11.attn.hook_pattern"));
        assert!(matches("*", "hook_embed"));
        assert!(matches("*resid*", "blocks.0.hook_resid_pre"));
        assert!(!matches("blocks.1.*", "blocks.11.hook_z"));
        assert!(!matches("hook_embed", "hook_embedding"));
        assert!(!matches("a*a", "a"));
    }
}
