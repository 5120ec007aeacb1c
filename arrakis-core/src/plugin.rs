//! Plugins: a tool written elsewhere, loaded at run time, over a C ABI that mirrors the `Model` waist and the `Context`.
//!
//! A plugin is a shared library of tools, registered as in any tool crate by [`register_tools!`](crate::register_tools),
//! with [`export_plugin!`](crate::export_plugin) beside it. Its tools see a [`Model`](crate::Model) and a
//! [`Context`](crate::Context) as linked ones do. [`abi`] is the whole boundary, [`stamp`] what a file says of itself
//! before any of its code runs; `host` is one side and [`guest`] the other.

pub mod abi;
mod axis;
mod crossing;
mod failure;
#[doc(hidden)]
pub mod guest;
mod handles;
mod host;
mod loaded;
pub mod stamp;
#[cfg(test)]
mod versions;

pub use loaded::{Adopted, Handles, LoadedTool, adopt};
pub use stamp::{Stamp, StampedTool};

/// Makes a library a plugin: exports its tools, and stamps it with what it was built for.
///
/// `export_plugin!()` hands over the tools of this crate, `export_plugin!(all)` those of every crate linked into it. Put
/// it under a feature, so that other plugins can depend on this crate without being two plugins in one:
///
/// ```ignore
/// #[cfg(feature = "plugin")]
/// arrakis_core::export_plugin!();
/// ```
#[macro_export]
macro_rules! export_plugin {
    () => {
        $crate::export_plugin! { @ $crate::plugin::stamp::Whose::Own }
    };
    (all) => {
        $crate::export_plugin! { @ $crate::plugin::stamp::Whose::All }
    };
    (@ $tools:expr) => {
        const _: () = {
            use $crate::plugin::{abi, guest, stamp};

            assert!(cfg!(panic = "unwind"), "a plugin needs `panic = \"unwind\"`: its panics are errors of its host");

            const PLUGIN: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
            const TEXT: &[&str] =
                &stamp::stamp_text(PLUGIN, concat!("arrakis_plugin_", env!("CARGO_CRATE_NAME")), $tools);

            #[used]
            #[cfg_attr(target_os = "linux", unsafe(link_section = ".note.arrakis"))]
            static STAMP: stamp::Note<{ stamp::note_len(TEXT) }> = stamp::note(stamp::STAMP, TEXT);

            #[unsafe(export_name = concat!("arrakis_plugin_", env!("CARGO_CRATE_NAME")))]
            unsafe extern "C" fn entry(host: *const abi::Host) -> *const abi::Plugin {
                // SAFETY: the host that has loaded this library gives its table.
                unsafe { guest::enter(host, PLUGIN, $tools) }
            }
        };
    };
}
