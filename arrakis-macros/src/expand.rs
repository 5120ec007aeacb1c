//! What `#[experiment]` makes of a function.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{AttrStyle, Attribute, Error, Expr, FnArg, ItemFn, Lit, Meta, Pat, Result};

use crate::signature::{Argument, Signature};
use crate::source::source;
use crate::version::version;

/// The function as an experiment; the function as it is beside the error where it is none, so that the error is alone.
pub(crate) fn expand(options: TokenStream, item: &TokenStream, bench: &TokenStream) -> TokenStream {
    match experiment(options, item, bench) {
        Ok(experiment) => experiment,
        Err(error) => {
            let error = error.to_compile_error();
            quote!(#error #item)
        }
    }
}

fn experiment(options: TokenStream, item: &TokenStream, root: &TokenStream) -> Result<TokenStream> {
    if let Some(option) = options.into_iter().next() {
        return Err(Error::new(option.span(), "`#[experiment]` has no options"));
    }
    let mut function: ItemFn = syn::parse2(item.clone())
        .map_err(|error| Error::new(error.span(), format!("an experiment is a plain function: {error}")))?;
    let signature = Signature::of(&mut function)?;
    let (inner, outer): (Vec<Attribute>, Vec<Attribute>) =
        std::mem::take(&mut function.attrs).into_iter().partition(|attr| matches!(attr.style, AttrStyle::Inner(_)));
    let items = Items {
        root,
        source: source(item, Span::call_site()),
        version: version(item),
        doc: doc(&outer),
        signature: &signature,
    };

    let mut body = function.clone();
    body.sig.ident = Ident::new("__body", function.sig.ident.span());
    body.vis = syn::Visibility::Inherited;
    let (entry, recording) = (items.entry(&function.sig.ident), items.recording());
    let bench = &signature.bench;
    let names: Vec<&Ident> = signature.arguments.iter().map(|argument| &argument.name).collect();
    let recorded = signature.arguments.iter().map(Argument::recorded_of);
    let visibility = &function.vis;
    let head = plain(&function);
    Ok(quote! {
        #(#outer)*
        #[allow(clippy::used_underscore_binding)]
        #visibility #head {
            #(#inner)*
            // Only here must a function that cannot fail return a `Result`.
            #[allow(clippy::unnecessary_wraps)]
            #body
            #entry
            #recording
            let __recorded = __record(#(#recorded),*)?;
            #root::__private::conduct(#bench, &__EXPERIMENT, __recorded, __keep, |__bench| {
                __body(__bench, #(#names),*)
            })
        }
    })
}

/// The parts of the expansion that are items within the function.
struct Items<'a> {
    /// The path of the bench's crate.
    root: &'a TokenStream,
    source: String,
    version: String,
    doc: String,
    signature: &'a Signature,
}

impl Items<'_> {
    /// What is registered, with the schema of the arguments and the functions that read them from JSON.
    fn entry(&self, name: &Ident) -> TokenStream {
        let Self { root, source, version, doc, signature } = self;
        let name = syn::ext::IdentExt::unraw(name).to_string();
        let (source, doc) = (Literal::string(source), Literal::string(doc));
        let schemars = format!("{root}::__private::schemars").replace(' ', "");
        let fields = signature.arguments.iter().map(|Argument { name, attributes, .. }| quote!(#(#attributes)* #name));
        let types: Vec<TokenStream> = signature.arguments.iter().map(Argument::owned).collect();
        let names: Vec<&Ident> = signature.arguments.iter().map(|argument| &argument.name).collect();
        let taken = signature.arguments.iter().zip(&types).map(|(argument, owned)| {
            let recorded = argument.recorded();
            quote_spanned!(argument.given.span()=> __given.take::<#owned>(#recorded)?)
        });
        let passed = signature.arguments.iter().map(|Argument { name, borrowed, .. }| match borrowed {
            Some(_) => quote!(&#name),
            None => name.to_token_stream(),
        });
        quote! {
            #[derive(#root::__private::schemars::JsonSchema)]
            #[schemars(crate = #schemars)]
            #[allow(dead_code, clippy::struct_excessive_bools)]
            struct __Arguments {
                #(#fields: #types,)*
            }

            const __EXPERIMENT: #root::Experiment = #root::Experiment {
                name: #name,
                module: ::core::module_path!(),
                owner: ::core::concat!(::core::env!("CARGO_PKG_NAME"), " ", ::core::env!("CARGO_PKG_VERSION")),
                doc: #doc,
                source: #source,
                version: #version,
                schema: #root::__private::schema::<__Arguments>,
                check: |__arguments| __read(__arguments).map(|_| ()),
                run: __perform,
            };

            #[allow(unused_mut, unused_variables, clippy::type_complexity)]
            fn __read(__arguments: #root::__private::Value) -> #root::Result<(#(#types,)*)> {
                let mut __given = #root::__private::Given::read(&__EXPERIMENT, __arguments)?;
                ::core::result::Result::Ok((#(#taken,)*))
            }

            #[allow(clippy::needless_borrow)]
            fn __perform(
                __bench: &#root::Bench<'_>,
                __arguments: #root::__private::Value,
            ) -> #root::Result<#root::Asked<#root::Kept>> {
                let (#(#names,)*) = __read(__arguments)?;
                let __recorded = __record(#(&#names),*)?;
                #root::__private::perform(__bench, &__EXPERIMENT, __recorded, __keep, |__bench| {
                    __body(__bench, #(#passed),*)
                })
            }

            #root::__private::inventory::submit!(__EXPERIMENT);
        }
    }

    /// The functions that make of the arguments and of a result what is recorded of them.
    fn recording(&self) -> TokenStream {
        let Self { root, signature, .. } = self;
        let output = &signature.output;
        let arguments = signature.arguments.iter().map(|argument| {
            let (name, given) = (&argument.name, argument.borrowed.as_ref().unwrap_or(&argument.given));
            quote!(#name: &#given)
        });
        let recorded = signature.arguments.iter().map(|argument| {
            let (name, recorded) = (&argument.name, argument.recorded());
            quote_spanned!(argument.given.span()=> __recorded.put(#recorded, #name)?;)
        });
        let value = quote_spanned!(output.span()=> <#output as #root::__private::Returned>::Value);
        let keep = quote_spanned!(output.span()=> (&&&#root::__private::Keep(__value)).keep());
        quote! {
            #[allow(unused_mut, clippy::ptr_arg, clippy::trivially_copy_pass_by_ref, clippy::ref_option)]
            fn __record(#(#arguments),*) -> #root::Result<#root::__private::Recorded> {
                let mut __recorded = #root::__private::Recorded::new(&__EXPERIMENT);
                #(#recorded)*
                ::core::result::Result::Ok(__recorded)
            }

            fn __keep(__value: &#value) -> #root::Result<#root::Kept> {
                #[allow(unused_imports)]
                use #root::__private::{KeepAnswer as _, KeepJson as _, KeepPart as _};
                #keep
            }
        }
    }
}

/// The signature without `mut`, which is of the body.
fn plain(function: &ItemFn) -> syn::Signature {
    let mut signature = function.sig.clone();
    for input in &mut signature.inputs {
        if let FnArg::Typed(typed) = input
            && let Pat::Ident(name) = &mut *typed.pat
        {
            name.mutability = None;
        }
    }
    signature
}

/// The text of the doc comments.
fn doc(attributes: &[Attribute]) -> String {
    let line = |attr: &Attribute| match &attr.meta {
        Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
            Expr::Lit(text) => match &text.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    let lines: Vec<String> = attributes.iter().filter_map(line).collect();
    let lines: Vec<&str> = lines.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    lines.join("\n").trim().to_owned()
}
