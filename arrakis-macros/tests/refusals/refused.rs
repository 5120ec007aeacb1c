//! Functions that are no experiments, each with the reason at its place.

#![allow(unused)]

use arrakis_macros::experiment;

struct Bench<'a>(&'a ());
type Result<T> = std::result::Result<T, String>;

#[experiment]
async fn waits(bench: &Bench<'_>) -> Result<f64> {
    Ok(0.0)
}

#[experiment]
const fn fixed(bench: &Bench) -> Result<f64> {
    Ok(0.0)
}

#[experiment]
unsafe fn dangerous(bench: &Bench) -> Result<f64> {
    Ok(0.0)
}

#[experiment]
extern "C" fn foreign(bench: &Bench) -> Result<f64> {
    Ok(0.0)
}

#[experiment]
fn generic<T: Into<f64>>(bench: &Bench, number: T) -> Result<f64> {
    Ok(number.into())
}

#[experiment]
fn sized<const N: usize>(bench: &Bench, numbers: [f64; N]) -> Result<f64> {
    Ok(numbers[0])
}

#[experiment]
fn lives<'a>(bench: &'a Bench<'a>) -> Result<f64> {
    Ok(0.0)
}

#[experiment]
fn hidden(bench: &Bench, number: impl Into<f64>) -> Result<f64> {
    Ok(number.into())
}

#[experiment]
fn unnamed(bench: &Bench) -> Result<impl Into<f64>> {
    Ok(0.0)
}

#[experiment]
fn nothing(bench: &Bench) {}

#[experiment]
fn alone() -> Result<f64> {
    Ok(0.0)
}

#[experiment]
fn first(number: f64, bench: &Bench) -> Result<f64> {
    Ok(number)
}

#[experiment]
fn taken(bench: Bench) -> Result<f64> {
    Ok(0.0)
}

#[experiment]
fn changed(bench: &mut Bench) -> Result<f64> {
    Ok(0.0)
}

#[experiment]
fn pattern(bench: &Bench, (a, b): (f64, f64)) -> Result<f64> {
    Ok(a + b)
}

#[experiment]
fn ignored(bench: &Bench, _: f64) -> Result<f64> {
    Ok(0.0)
}

#[experiment]
fn lent(bench: &Bench, numbers: &mut Vec<f64>) -> Result<f64> {
    Ok(numbers[0])
}

#[experiment]
fn inside(bench: &Bench, words: Vec<&str>) -> Result<f64> {
    Ok(words.len() as f64)
}

#[experiment]
fn forever(bench: &Bench, word: &'static str) -> Result<f64> {
    Ok(word.len() as f64)
}

#[experiment(name = "other")]
fn options(bench: &Bench) -> Result<f64> {
    Ok(0.0)
}

#[experiment]
struct Shape;

struct Owner;

impl Owner {
    #[experiment]
    fn method(&self, bench: &Bench) -> Result<f64> {
        Ok(0.0)
    }
}

fn main() {}
