//! Every built-in tool as a plugin.

use arrakis_tools as _;

arrakis_core::export_plugin!(all);
