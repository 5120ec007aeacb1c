//! Queries: which runs are wanted, by name, parameter, metric, tag, date, status and more, and in which order.

mod bound;
mod field;

use std::cmp::Ordering;

use arrakis_core::nearest_name;

use crate::error::hint;
use crate::{Error, Listing, Log, Record, Result};
use bound::Bound;
use field::Field;

/// Which runs are wanted, and in which order.
///
/// A term is a field, an operator and a value: `status=completed`, `parameters.layer>=3`, `metrics.loss<0.5`,
/// `tag=good`, `started>=2026-01-31`, `note~strange`. Operators are `=`, `!=`, `<`, `<=`, `>`, `>=` and `~` (contains,
/// whatever the case). Numbers compare as numbers, dates as dates (UTC), all else as text. A run without the field matches
/// `!=` and nothing else. A run matches if every term does.
///
/// ```
/// # fn main() -> arrakis_bench::Result<()> {
/// use arrakis_bench::Query;
/// let query = Query::parse(["name=logit_lens.lens", "metrics.loss<0.5"])?.sort("-metrics.loss")?.limit(10);
/// assert!(Query::parse(["colour=red"]).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Query {
    terms: Vec<Term>,
    sort: Option<(Field, Ordering)>,
    limit: Option<usize>,
}

#[derive(Debug, Clone)]
struct Term {
    field: Field,
    operator: Operator,
    bound: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Contains,
}

/// Longer ones first, so that `<=` is not read as `<`.
const OPERATORS: [(&str, Operator); 7] = [
    ("!=", Operator::Unequal),
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("~", Operator::Contains),
];

impl Query {
    /// A query of terms; an error names one that has no meaning.
    pub fn parse(terms: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self> {
        let terms = terms.into_iter().map(|term| Term::parse(term.as_ref())).collect::<Result<_>>()?;
        Ok(Self { terms, ..Self::default() })
    }

    /// The same query, its runs in the order of a field, from the greatest to the least if it begins with `-`.
    ///
    /// Runs without the field come last.
    pub fn sort(mut self, field: &str) -> Result<Self> {
        let (name, order) = match field.strip_prefix('-') {
            Some(name) => (name, Ordering::Greater),
            None => (field, Ordering::Less),
        };
        self.sort = Some((Field::parse(name).map_err(|why| Error::Query { term: field.to_owned(), why })?, order));
        Ok(self)
    }

    /// The same query, of which at most so many runs are given; the last ones, unless it is sorted by a field.
    #[must_use]
    pub const fn limit(mut self, count: usize) -> Self {
        self.limit = Some(count);
        self
    }

    /// Whether a run is wanted.
    #[must_use]
    pub fn matches(&self, record: &Record) -> bool {
        self.terms.iter().all(|term| term.matches(record))
    }

    /// An error if a parameter or metric is named that none of the runs has.
    fn check(&self, records: &[Record]) -> Result<()> {
        let fields = self.terms.iter().map(|term| &term.field).chain(self.sort.as_ref().map(|(field, _)| field));
        for field in fields.filter(|field| !records.is_empty() && field.is_open()) {
            if records.iter().all(|record| field.values(record).is_empty()) {
                let known: Vec<String> = records.iter().flat_map(|record| field.like(record)).collect();
                let nearest = nearest_name(&field.to_string(), known.iter().map(String::as_str));
                let hint = hint(nearest.as_deref());
                return Err(Error::Query { term: field.to_string(), why: format!("no run has it{hint}") });
            }
        }
        Ok(())
    }
}

impl Term {
    fn parse(text: &str) -> Result<Self> {
        let refuse = |why: String| Error::Query { term: text.to_owned(), why };
        let place = text.find(['=', '!', '<', '>', '~']);
        let found = place.and_then(|place| {
            let (name, rest) = text.split_at(place);
            let (sign, operator) = OPERATORS.into_iter().find(|(sign, _)| rest.starts_with(sign))?;
            Some((name.trim(), operator, rest[sign.len()..].trim()))
        });
        let Some((name, operator, value)) = found else {
            return Err(refuse("a term is a field, one of `= != < <= > >= ~`, and a value".into()));
        };
        let field = Field::parse(name).map_err(refuse)?;
        let bound = if field.is_date() { Bound::date(value).map_err(refuse)? } else { Bound::new(value) };
        // A part of a word need not be a word.
        if operator != Operator::Contains {
            field.check(value, &bound).map_err(refuse)?;
        }
        Ok(Self { field, operator, bound })
    }

    fn matches(&self, record: &Record) -> bool {
        let values = self.field.values(record);
        let equal = |value| self.bound.compare(value).is_some_and(Ordering::is_eq);
        let is = |wanted: fn(Ordering) -> bool| {
            values.iter().any(|value| self.bound.compare(value).is_some_and(wanted) && !self.bound.is_nan(value))
        };
        match self.operator {
            Operator::Equal => values.iter().any(equal),
            Operator::Unequal => !values.iter().any(equal),
            Operator::Less => is(Ordering::is_lt),
            Operator::AtMost => is(Ordering::is_le),
            Operator::Greater => is(Ordering::is_gt),
            Operator::AtLeast => is(Ordering::is_ge),
            Operator::Contains => values.iter().any(|value| self.bound.is_in(value)),
        }
    }
}

impl Log {
    /// The runs that a query wants; damaged ones are told of.
    pub fn query(&self, query: &Query) -> Result<Listing> {
        let mut listing = self.listing()?;
        query.check(&listing.records)?;
        listing.records.retain(|record| query.matches(record));
        let skipped = match (&query.sort, query.limit) {
            (None, Some(limit)) => listing.records.len().saturating_sub(limit),
            _ => 0,
        };
        listing.records.drain(..skipped);
        if let Some((field, order)) = &query.sort {
            let key = |record: &Record| field.values(record).into_iter().next();
            let mut keyed: Vec<_> = listing.records.into_iter().map(|record| (key(&record), record)).collect();
            keyed.sort_by(|(a, _), (b, _)| match (a, b) {
                (Some(a), Some(b)) => bound::order(a, b, *order == Ordering::Greater),
                (a, b) => b.is_some().cmp(&a.is_some()),
            });
            listing.records = keyed.into_iter().map(|(_, record)| record).collect();
        }
        listing.records.truncate(query.limit.unwrap_or(usize::MAX));
        Ok(listing)
    }
}
