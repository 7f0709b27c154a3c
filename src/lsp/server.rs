//! The session: the handshake, then one message after the other. Threads check projects and look at what is up.

use super::candidate::Snippets;
use super::convert::TOKEN_TYPES;
use super::positions::Encoding;
use super::requests::answer;
use super::state::State;
use super::watch::{Refresh, Seen, Watcher};
use super::work::{Check, Checker, Results, ToEditor};
use crate::engine::Options;
use crate::model::{Context, Error, Result};
use lsp::notification::{self as told, Notification as _};
use lsp::request::{self as ask, Request as _};
use lsp_server::{Connection, ErrorCode, Message, Notification, Request, RequestId, Response};
use lsp_types as lsp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// What the server can do.
fn capabilities(encoding: Encoding) -> lsp::ServerCapabilities {
    let legend = lsp::SemanticTokensLegend {
        token_types: TOKEN_TYPES.to_vec(),
        token_modifiers: vec![lsp::SemanticTokenModifier::DECLARATION],
    };
    let texts = |triggers: &[&str]| Some(triggers.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    let sync = lsp::TextDocumentSyncOptions {
        open_close: Some(true),
        change: Some(lsp::TextDocumentSyncKind::INCREMENTAL),
        save: Some(lsp::TextDocumentSyncSaveOptions::SaveOptions(lsp::SaveOptions { include_text: Some(false) })),
        ..lsp::TextDocumentSyncOptions::default()
    };
    lsp::ServerCapabilities {
        position_encoding: Some(match encoding {
            Encoding::Utf8 => lsp::PositionEncodingKind::UTF8,
            Encoding::Utf16 => lsp::PositionEncodingKind::UTF16,
        }),
        text_document_sync: Some(lsp::TextDocumentSyncCapability::Options(sync)),
        completion_provider: Some(lsp::CompletionOptions {
            trigger_characters: texts(&["\"", "=", "/", "{", " "]),
            ..lsp::CompletionOptions::default()
        }),
        hover_provider: Some(lsp::HoverProviderCapability::Simple(true)),
        signature_help_provider: Some(lsp::SignatureHelpOptions {
            trigger_characters: texts(&[" ", "="]),
            ..lsp::SignatureHelpOptions::default()
        }),
        definition_provider: Some(lsp::OneOf::Left(true)),
        references_provider: Some(lsp::OneOf::Left(true)),
        document_highlight_provider: Some(lsp::OneOf::Left(true)),
        rename_provider: Some(lsp::OneOf::Right(lsp::RenameOptions {
            prepare_provider: Some(true),
            work_done_progress_options: lsp::WorkDoneProgressOptions::default(),
        })),
        document_symbol_provider: Some(lsp::OneOf::Left(true)),
        folding_range_provider: Some(lsp::FoldingRangeProviderCapability::Simple(true)),
        document_link_provider: Some(lsp::DocumentLinkOptions {
            resolve_provider: Some(false),
            work_done_progress_options: lsp::WorkDoneProgressOptions::default(),
        }),
        inlay_hint_provider: Some(lsp::OneOf::Left(true)),
        code_action_provider: Some(lsp::CodeActionProviderCapability::Options(lsp::CodeActionOptions {
            code_action_kinds: Some(vec![lsp::CodeActionKind::QUICKFIX, lsp::CodeActionKind::REFACTOR_REWRITE]),
            ..lsp::CodeActionOptions::default()
        })),
        document_formatting_provider: Some(lsp::OneOf::Left(true)),
        semantic_tokens_provider: Some(lsp::SemanticTokensServerCapabilities::SemanticTokensOptions(
            lsp::SemanticTokensOptions {
                legend,
                range: Some(true),
                full: Some(lsp::SemanticTokensFullOptions::Bool(true)),
                ..lsp::SemanticTokensOptions::default()
            },
        )),
        call_hierarchy_provider: Some(lsp::CallHierarchyServerCapability::Simple(true)),
        ..lsp::ServerCapabilities::default()
    }
}

/// What the editor can do, as far as it matters.
struct Client {
    encoding: Encoding,
    snippets: Snippets,
    refresh: Refresh,
    /// Whether it watches files for us.
    watches: bool,
}

impl Client {
    fn of(params: &Value) -> Self {
        // Only a few of the capabilities matter, and what an editor gets wrong in others must not end the session.
        let of = |path: &str| params.pointer(&format!("/capabilities/{path}"));
        let offers = of("general/positionEncodings").and_then(Value::as_array);
        let utf8 = offers.is_some_and(|offers| offers.iter().any(|one| one == "utf-8"));
        let is = |path: &str| of(path).and_then(Value::as_bool).unwrap_or(false);
        Self {
            encoding: if utf8 { Encoding::Utf8 } else { Encoding::Utf16 },
            snippets: match is("textDocument/completion/completionItem/snippetSupport") {
                true => Snippets::Understood,
                false => Snippets::Unknown,
            },
            refresh: if is("workspace/inlayHint/refreshSupport") { Refresh::Known } else { Refresh::Unknown },
            watches: is("workspace/didChangeWatchedFiles/dynamicRegistration"),
        }
    }
}

/// A session.
struct Server<'a> {
    connection: &'a Connection,
    state: State,
    checks: Sender<Check>,
    threads: Vec<JoinHandle<()>>,
    /// The messages that have come and are not handled yet.
    waiting: VecDeque<Message>,
}

/// Serves an editor until it says goodbye or is gone.
///
/// # Errors
/// Fails when the editor does not keep to the protocol in the handshake.
pub fn session(connection: &Connection, options: &Options) -> Result<()> {
    let begun = |error: lsp_server::ProtocolError| Error::caused("the editor did not begin a session", error);
    let (id, params) = connection.initialize_start().map_err(begun)?;
    let client = Client::of(&params);
    let result = json!({
        "capabilities": capabilities(client.encoding),
        "serverInfo": { "name": "stead", "version": env!("CARGO_PKG_VERSION") },
    });
    connection.initialize_finish(id, result).map_err(begun)?;
    let mut server = Server::new(connection, options, &client)?;
    if client.watches {
        server.watch_files();
    }
    while let Some(message) = server.next() {
        match message {
            Message::Request(request) if request.method == ask::Shutdown::METHOD => {
                server.end();
                // Whoever does not listen any more needs no answer.
                let _ = connection.sender.send(Response::new_ok(request.id, ()).into());
                wait_for_exit(connection);
                return Ok(());
            }
            Message::Request(request) => server.request(request),
            Message::Notification(notification) if notification.method == told::Exit::METHOD => break,
            Message::Notification(notification) => server.notification(notification),
            Message::Response(_) => {}
        }
    }
    server.end();
    Ok(())
}

/// After the goodbye, everything but the exit is refused.
fn wait_for_exit(connection: &Connection) {
    for message in &connection.receiver {
        match message {
            Message::Notification(notification) if notification.method == told::Exit::METHOD => return,
            Message::Request(request) => {
                let code = ErrorCode::InvalidRequest as i32;
                let _ = connection.sender.send(Response::new_err(request.id, code, "the session has ended".into()).into());
            }
            _ => {}
        }
    }
}

impl<'a> Server<'a> {
    fn new(connection: &'a Connection, options: &Options, client: &Client) -> Result<Self> {
        let sender = connection.sender.clone();
        // An editor that is gone is noticed by the loop, which then gets no more messages.
        let to_editor: ToEditor = Arc::new(move |message| drop(sender.send(message)));
        let (results, seen): (Results, Arc<Seen>) = (Arc::new(Mutex::default()), Arc::new(Seen::default()));
        let ((checks, to_check), (looks, to_look)) = (channel(), channel());
        let (encoding, refresh) = (client.encoding, client.refresh);
        let checker = Checker { options: options.clone(), encoding, results: results.clone(), to_editor: to_editor.clone() };
        let watcher = Watcher { options: options.clone(), seen: seen.clone(), to_editor, refresh };
        let start = |name: &str, work: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.into()).spawn(work).context(|| "cannot start a thread".into())
        };
        let threads = vec![
            start("check", Box::new(move || checker.run(&to_check)))?,
            start("watch", Box::new(move || watcher.run(&to_look)))?,
        ];
        let state =
            State { options: options.clone(), encoding, snippets: client.snippets, results, seen, looks, open: BTreeMap::new() };
        Ok(Self { connection, state, checks, threads, waiting: VecDeque::new() })
    }

    /// The next message; all that have come are looked at, because a later one may make an earlier one pointless.
    fn next(&mut self) -> Option<Message> {
        if self.waiting.is_empty() {
            self.waiting.push_back(self.connection.receiver.recv().ok()?);
        }
        self.waiting.extend(self.connection.receiver.try_iter());
        self.waiting.pop_front()
    }

    fn send(&self, message: impl Into<Message>) {
        // An editor that is gone is noticed by the loop, which then gets no more messages.
        let _ = self.connection.sender.send(message.into());
    }

    fn request(&self, request: Request) {
        let refused = self.pointless(&request).map(|(code, why)| Response::new_err(request.id.clone(), code as i32, why.into()));
        self.send(refused.unwrap_or_else(|| answer(&self.state, request)));
    }

    /// Whether the editor took a request back, or has changed the text that it is about.
    fn pointless(&self, request: &Request) -> Option<(ErrorCode, &'static str)> {
        let uri = |params: &Value| params.pointer("/textDocument/uri").cloned();
        let about = uri(&request.params);
        self.waiting.iter().find_map(|message| match message {
            Message::Notification(one) if one.method == told::Cancel::METHOD => {
                let id = one.params.get("id").and_then(|id| serde_json::from_value::<RequestId>(id.clone()).ok());
                (id.as_ref() == Some(&request.id)).then_some((ErrorCode::RequestCanceled, "the request was cancelled"))
            }
            Message::Notification(one) if one.method == told::DidChangeTextDocument::METHOD => (about.is_some()
                && uri(&one.params) == about)
                .then_some((ErrorCode::ContentModified, "the text has changed since")),
            _ => None,
        })
    }

    fn notification(&mut self, one: Notification) {
        let Notification { method, params } = one;
        let due: Vec<Check> = match method.as_str() {
            told::DidOpenTextDocument::METHOD => read::<told::DidOpenTextDocument>(params)
                .and_then(|params| self.state.opened(params.text_document))
                .into_iter()
                .collect(),
            told::DidChangeTextDocument::METHOD => {
                read::<told::DidChangeTextDocument>(params).and_then(|params| self.state.changed(params)).into_iter().collect()
            }
            told::DidCloseTextDocument::METHOD => read::<told::DidCloseTextDocument>(params)
                .and_then(|params| self.state.closed(&params.text_document.uri))
                .into_iter()
                .collect(),
            told::DidSaveTextDocument::METHOD | told::DidChangeWatchedFiles::METHOD => self.state.all(),
            _ => Vec::new(),
        };
        for check in due {
            // The thread lives as long as this session.
            let _ = self.checks.send(check);
        }
    }

    /// Asks the editor to tell when files change that a project may consist of.
    fn watch_files(&self) {
        let patterns = ["**/*.kdl", "**/stead.lock", "**/*Dockerfile*", "**/*.dockerignore"];
        let watchers: Vec<Value> = patterns.iter().map(|pattern| json!({ "globPattern": pattern })).collect();
        let registration = json!({
            "id": "files",
            "method": told::DidChangeWatchedFiles::METHOD,
            "registerOptions": { "watchers": watchers },
        });
        let id = RequestId::from("watch-files".to_owned());
        let params = json!({ "registrations": [registration] });
        self.send(Request::new(id, ask::RegisterCapability::METHOD.into(), params));
    }

    /// Ends the threads, once they have done what was asked for.
    fn end(self) {
        let Self { state, checks, threads, .. } = self;
        drop((state, checks));
        for thread in threads {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Reads the parameters of a notification; nobody waits for an answer to one that is wrong.
fn read<N: lsp::notification::Notification>(params: Value) -> Option<N::Params> {
    serde_json::from_value(params).ok()
}
