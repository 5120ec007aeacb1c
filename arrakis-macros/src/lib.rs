//! `#[experiment]`, the one attribute of Arrakis: a function cannot see its own source, so a macro has to.

mod expand;
mod signature;
mod source;
mod version;

use proc_macro::TokenStream;
use quote::quote;

/// Makes an experiment of a function: calling it logs a run with its arguments, its result and its own source.
///
/// The first parameter is `&Bench`; the others can be written as JSON and read back (`Serialize`, `Deserialize`,
/// `JsonSchema`), and may be taken by `&`. The function returns a `Result` whose error can be made of the bench's, and
/// whose value is an `Answer`, a shape of one (`Grid`, `f64` …) or anything `Serialize`. Signature, visibility and
/// documentation stay as they are. Doc comments of parameters are their help, and an `Option` may be left out. A
/// parameter that names a file says so, as a field of a tool does: `#[schemars(extend("x-file" = "read"))] words: &Path`.
///
/// The function is registered by its name, so that it can be run by name with JSON, from the command line, and again.
#[proc_macro_attribute]
pub fn experiment(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(options.into(), &item.into(), &quote!(::arrakis_bench)).into()
}

/// The same attribute for crates that know the bench by the facade's name only.
#[doc(hidden)]
#[proc_macro_attribute]
pub fn experiment_of_facade(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(options.into(), &item.into(), &quote!(::arrakis::bench)).into()
}
