//! A language server: what an editor asks about project files, answered from the grammar table, the project's own names,
//! its lock, and what is up.
//!
//! The features are pure functions from a place in an analysed text to plain values (`completion`, `hover`, `navigate`,
//! `actions` and so on). `document` analyses a text, `project` puts the files of a project together, `convert` turns our values
//! into the protocol's, and `server` is the loop. Diagnostics are those of `stead check`, with the texts of the editor in
//! place of files; a thread of its own makes them, and another one looks at what is up. Nothing here writes to the disk or
//! uses the network.

mod actions;
mod calls;
mod candidate;
mod completion;
mod convert;
mod document;
mod edit;
mod facts;
mod fixes;
mod format;
mod hints;
mod hover;
mod links;
mod names;
mod navigate;
mod positions;
mod project;
mod requests;
mod scan;
mod server;
mod signature;
mod state;
mod symbols;
mod tokens;
mod uri;
mod values;
mod watch;
mod work;

use crate::engine::Options;
use crate::model::{Context, Result};
use lsp_server::Connection;

/// Serves an editor on standard input and output.
///
/// # Errors
/// Fails when the editor does not keep to the protocol, or when its streams break.
pub fn serve(options: &Options) -> Result<()> {
    let (connection, streams) = Connection::stdio();
    server::session(&connection, options)?;
    // The streams end when nobody can send any more.
    drop(connection);
    streams.join().context(|| "the connection to the editor broke".into())
}

#[cfg(test)]
mod tests;
