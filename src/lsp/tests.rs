//! Sessions with an editor in memory.

use super::server::session;
use crate::engine::{Chosen, Options};
use crate::spec::Choices;
use crate::store::Home;
use lsp_server::{Connection, Message, Notification, Request, RequestId, Response};
use serde_json::{Value, json};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

/// An editor.
struct Editor {
    connection: Option<Connection>,
    server: Option<JoinHandle<crate::model::Result<()>>>,
    folder: tempfile::TempDir,
    last: i32,
    /// What came while something else was waited for.
    kept: Vec<Message>,
    pub initialized: Value,
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Editor {
    fn new(files: &[(&str, &str)], capabilities: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let (ours, theirs) = Connection::memory();
        let home = Home::find(Some(&folder.path().join("home")));
        let (file, chosen) = ("stead.kdl".to_owned(), Chosen::ByFolder);
        let options =
            Options { home, folder: folder.path().to_owned(), file, chosen, choices: Choices::default(), checkout: None };
        let server = std::thread::spawn(move || session(&theirs, &options));
        let mut editor =
            Self { connection: Some(ours), server: Some(server), folder, last: 0, kept: Vec::new(), initialized: Value::Null };
        editor.initialized = editor.ask("initialize", json!({ "capabilities": capabilities }));
        editor.tell("initialized", json!({}));
        editor
    }

    fn send(&self, message: impl Into<Message>) {
        self.connection.as_ref().unwrap().sender.send(message.into()).unwrap();
    }

    fn tell(&self, method: &str, params: Value) {
        self.send(Notification { method: method.into(), params });
    }

    /// Waits for the first message that something is found in; others are kept.
    fn wait<T>(&mut self, mut find: impl FnMut(&Message) -> Option<T>) -> T {
        for at in 0..self.kept.len() {
            if let Some(found) = find(&self.kept[at]) {
                self.kept.remove(at);
                return found;
            }
        }
        loop {
            let message = self.connection.as_ref().unwrap().receiver.recv_timeout(PATIENCE).expect("the server is silent");
            match find(&message) {
                Some(found) => return found,
                None => self.kept.push(message),
            }
        }
    }

    fn response(&mut self, wanted: i32) -> Response {
        self.wait(|message| match message {
            Message::Response(response) if response.id == RequestId::from(wanted) => Some(response.clone()),
            _ => None,
        })
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        self.send(Request { id: self.last.into(), method: method.into(), params });
        self.response(self.last).response_result.unwrap_or_else(|error| panic!("{method}: {error:?}"))
    }

    fn uri(&self, file: &str) -> String {
        format!("file://{}", self.folder.path().join(file).display())
    }

    fn document(&self, file: &str) -> Value {
        json!({ "uri": self.uri(file) })
    }

    fn open(&self, file: &str, version: i32, text: &str) {
        let item = json!({ "uri": self.uri(file), "languageId": "kdl", "version": version, "text": text });
        self.tell("textDocument/didOpen", json!({ "textDocument": item }));
    }

    fn change(&self, file: &str, version: i32, range: Value, text: &str) {
        let change = if range.is_null() { json!({ "text": text }) } else { json!({ "range": range, "text": text }) };
        let params = json!({ "textDocument": { "uri": self.uri(file), "version": version }, "contentChanges": [change] });
        self.tell("textDocument/didChange", params);
    }

    /// The codes of the diagnostics of a version of a file.
    fn findings(&mut self, file: &str, version: Option<i32>) -> Vec<String> {
        let uri = self.uri(file);
        self.wait(|message| {
            let Message::Notification(one) = message else { return None };
            let same = one.method == "textDocument/publishDiagnostics" && one.params["uri"] == uri.as_str();
            let right = version.is_none_or(|version| one.params["version"] == version);
            let all = one.params["diagnostics"].as_array()?;
            (same && right).then(|| all.iter().map(|found| found["code"].as_str().unwrap().to_owned()).collect())
        })
    }

    /// Ends the session: nothing that the server said may be left.
    fn end(mut self) {
        assert_eq!(self.ask("shutdown", Value::Null), Value::Null);
        self.tell("exit", Value::Null);
        self.server.take().unwrap().join().unwrap().unwrap();
        let connection = self.connection.take().unwrap();
        let left: Vec<Message> = self.kept.drain(..).chain(connection.receiver.try_iter()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn range(from: (u32, u32), to: (u32, u32)) -> Value {
    let at = |(line, character): (u32, u32)| json!({ "line": line, "character": character });
    json!({ "start": at(from), "end": at(to) })
}

const PROJECT: &str = "project \"p\"\ncontainer \"web\" {\n    image \"redis:7\"\n}\n";

#[test]
fn a_session_from_beginning_to_end() {
    let mut editor = Editor::new(&[("stead.kdl", PROJECT)], json!({}));
    assert_eq!(editor.initialized["capabilities"]["positionEncoding"], "utf-16");
    assert_eq!(editor.initialized["capabilities"]["documentFormattingProvider"], true);
    editor.open("stead.kdl", 1, PROJECT);
    assert_eq!(editor.findings("stead.kdl", Some(1)), Vec::<String>::new());
    // The text in the editor counts, not the file; also while it is broken.
    editor.change("stead.kdl", 2, range((2, 4), (2, 9)), "imagee");
    assert_eq!(editor.findings("stead.kdl", Some(2)), ["no-image", "unknown-node"]);
    editor.change("stead.kdl", 3, range((2, 4), (2, 10)), "image \"🦀\" [");
    assert!(editor.findings("stead.kdl", Some(3)).contains(&"syntax".to_owned()));
    let place = json!({ "textDocument": editor.document("stead.kdl"), "position": { "line": 1, "character": 2 } });
    let hover = editor.ask("textDocument/hover", place.clone());
    assert!(hover["contents"]["value"].as_str().unwrap().contains("container"), "{hover}");
    let found = editor.ask(
        "textDocument/completion",
        json!({ "textDocument": editor.document("stead.kdl"), "position": { "line": 3, "character": 0 } }),
    );
    assert!(found["items"].as_array().unwrap().iter().any(|item| item["label"] == "publish"), "{found}");
    // The texts on the disk are as they were.
    assert_eq!(std::fs::read_to_string(editor.folder.path().join("stead.kdl")).unwrap(), PROJECT);
    editor.tell("textDocument/didClose", json!({ "textDocument": editor.document("stead.kdl") }));
    assert_eq!(editor.findings("stead.kdl", None), Vec::<String>::new(), "what is closed is not marked any more");
    assert_eq!(std::fs::read_dir(editor.folder.path()).unwrap().count(), 1, "nothing was written");
    editor.end();
}

#[test]
fn every_request_has_an_answer() {
    let mut editor = Editor::new(&[("stead.kdl", PROJECT)], json!({ "general": { "positionEncodings": ["utf-16", "utf-8"] } }));
    assert_eq!(editor.initialized["capabilities"]["positionEncoding"], "utf-8");
    editor.open("stead.kdl", 1, PROJECT);
    assert_eq!(editor.findings("stead.kdl", Some(1)), Vec::<String>::new());
    for (line, character) in [(0, 0), (1, 11), (2, 12), (3, 1), (99, 99), (u32::MAX, u32::MAX)] {
        let place = json!({ "textDocument": editor.document("stead.kdl"), "position": { "line": line, "character": character } });
        for method in ["completion", "hover", "definition", "signatureHelp", "documentHighlight", "prepareCallHierarchy"] {
            editor.ask(&format!("textDocument/{method}"), place.clone());
        }
        let mut references = place.clone();
        references["context"] = json!({ "includeDeclaration": true });
        editor.ask("textDocument/references", references);
    }
    let whole = json!({ "textDocument": editor.document("stead.kdl"), "range": range((0, 0), (99, 0)), "context": { "diagnostics": [] } });
    for method in [
        "documentSymbol",
        "foldingRange",
        "documentLink",
        "inlayHint",
        "codeAction",
        "semanticTokens/full",
        "semanticTokens/range",
    ] {
        editor.ask(&format!("textDocument/{method}"), whole.clone());
    }
    // A file that is not open, and a request that does not exist.
    let place = json!({ "textDocument": editor.document("none.kdl"), "position": { "line": 0, "character": 0 } });
    assert_eq!(editor.ask("textDocument/hover", place), Value::Null);
    for (method, params) in [("textDocument/nonsense", json!({})), ("textDocument/hover", json!({ "wrong": 1 }))] {
        editor.last += 1;
        editor.send(Request { id: editor.last.into(), method: method.into(), params });
        assert!(editor.response(editor.last).response_result.is_err());
    }
    editor.end();
}

#[test]
fn files_of_a_project_are_one() {
    let main = "project \"p\"\ninclude \"parts/db.kdl\"\ncontainer \"web\" {\n    image \"redis:7\"\n    network \"back\"\n}\n";
    let part = "network \"back\"\ncontainer \"db\" {\n    image \"redis:7\"\n    network \"back\"\n}\n";
    let mut editor = Editor::new(&[("stead.kdl", main), ("parts/db.kdl", part)], json!({}));
    editor.open("parts/db.kdl", 1, part);
    assert_eq!(editor.findings("parts/db.kdl", Some(1)), Vec::<String>::new());
    let at = json!({ "textDocument": editor.document("parts/db.kdl"), "position": { "line": 0, "character": 10 } });
    let mut rename = at.clone();
    rename["newName"] = json!("front");
    let edits = editor.ask("textDocument/rename", rename);
    assert_eq!(edits["changes"][editor.uri("parts/db.kdl")].as_array().unwrap().len(), 2, "{edits}");
    assert_eq!(edits["changes"][editor.uri("stead.kdl")].as_array().unwrap().len(), 1, "{edits}");
    // An error in one file that another one causes is shown where it is, though that file is not open.
    editor.change("parts/db.kdl", 2, range((0, 9), (0, 13)), "deep");
    assert_eq!(editor.findings("parts/db.kdl", Some(2)), ["unknown-name"]);
    assert_eq!(editor.findings("stead.kdl", None), ["unknown-name"]);
    let params = json!({ "textDocument": editor.document("parts/db.kdl"), "range": range((3, 0), (3, 20)), "context": { "diagnostics": [] } });
    let actions = editor.ask("textDocument/codeAction", params);
    let titles: Vec<&str> = actions.as_array().unwrap().iter().map(|action| action["title"].as_str().unwrap()).collect();
    assert!(titles.iter().any(|title| title.starts_with("Declare")), "{titles:?}");
    editor.change("parts/db.kdl", 3, Value::Null, part);
    assert_eq!(editor.findings("parts/db.kdl", Some(3)), Vec::<String>::new());
    assert_eq!(editor.findings("stead.kdl", None), Vec::<String>::new());
    editor.end();
}

#[test]
fn dockerfiles_of_a_project_are_checked() {
    let main = "project \"p\"\nimage \"app\" {\n    dockerfile \"Dockerfile\"\n}\ncontainer \"web\" {\n    image \"app\"\n}\n";
    let mut editor = Editor::new(&[("stead.kdl", main), ("Dockerfile", "FROM scratch\nCMD [\"/x\"]\n")], json!({}));
    editor.open("Dockerfile", 1, "FROM scratch\nRNU make\nCMD [\"/x\"]\n");
    assert!(editor.findings("Dockerfile", Some(1)).contains(&"dockerfile".to_owned()));
    editor.change("Dockerfile", 2, range((1, 0), (1, 8)), "");
    assert_eq!(editor.findings("Dockerfile", Some(2)), Vec::<String>::new());
    editor.end();
}

#[test]
fn requests_about_old_texts_are_refused() {
    let mut editor = Editor::new(&[("stead.kdl", PROJECT)], json!({}));
    editor.open("stead.kdl", 1, PROJECT);
    editor.findings("stead.kdl", Some(1));
    let long = format!("{PROJECT}{}", "volume \"data\"\n".repeat(4000));
    editor.change("stead.kdl", 2, Value::Null, &long);
    // Whether the server has seen the later messages in time is a matter of luck: each request is answered, one way or another.
    let mut answered = Vec::new();
    for number in 0..30 {
        editor.last += 1;
        let id = editor.last;
        editor.send(Request {
            id: id.into(),
            method: "textDocument/semanticTokens/full".into(),
            params: json!({ "textDocument": editor.document("stead.kdl") }),
        });
        if number % 2 == 0 {
            editor.tell("$/cancelRequest", json!({ "id": id }));
        }
        editor.change("stead.kdl", 3 + number, range((0, 0), (0, 0)), "// x\n");
        answered.push(id);
    }
    for id in answered {
        if let Err(error) = editor.response(id).response_result {
            assert!([-32800, -32801].contains(&error.code), "{error:?}");
        }
    }
    editor.findings("stead.kdl", Some(32));
    // Versions in between may have been checked, too.
    editor.kept.retain(|message| !matches!(message, Message::Notification(_)));
    editor.end();
}

#[test]
fn hostile_texts_do_not_end_a_session() {
    let mut editor = Editor::new(&[], json!({}));
    editor.open("stead.kdl", 1, "");
    assert_eq!(editor.findings("stead.kdl", Some(1)), ["no-project"], "a file that was never saved");
    let deep = format!("project \"p\"\n{}", "a {".repeat(20_000));
    let wide = format!("project \"p\"\n{}", "volume \"a\"\n".repeat(10_000));
    let garbage: String = (0..(1_u64 << 20) - 1).map(|at| char::from(b' ' + u8::try_from((at * 7919) % 95).unwrap())).collect();
    let long = "x".repeat(3 << 20);
    for (version, text) in (2..).zip([deep.as_str(), &wide, &garbage, &long, "\u{feff}\r\n\t🦀 {\"\r", "{\"a\": 1}", PROJECT]) {
        editor.change("stead.kdl", version, Value::Null, text);
        let whole = json!({ "textDocument": editor.document("stead.kdl"), "position": { "line": 1, "character": 3 } });
        for method in ["completion", "hover", "documentSymbol", "foldingRange", "semanticTokens/full", "definition"] {
            editor.ask(&format!("textDocument/{method}"), whole.clone());
        }
        let found = editor.findings("stead.kdl", Some(version));
        assert_eq!(found.is_empty(), text == PROJECT, "{version}: {found:?}");
    }
    editor.end();
}

#[test]
fn the_editor_is_asked_to_watch_files_if_it_can() {
    let capabilities = json!({ "workspace": { "didChangeWatchedFiles": { "dynamicRegistration": true } } });
    let mut editor = Editor::new(&[("stead.kdl", PROJECT)], capabilities);
    let id = editor.wait(|message| match message {
        Message::Request(request) if request.method == "client/registerCapability" => Some(request.id.clone()),
        _ => None,
    });
    editor.send(Response::new_ok(id, ()));
    let part = "project \"p\"\ninclude \"other.kdl\"\n";
    editor.open("stead.kdl", 1, part);
    assert_eq!(editor.findings("stead.kdl", Some(1)), ["unreadable"]);
    std::fs::write(editor.folder.path().join("other.kdl"), "volume \"data\"\n").unwrap();
    let change = json!({ "uri": editor.uri("other.kdl"), "type": 1 });
    editor.tell("workspace/didChangeWatchedFiles", json!({ "changes": [change] }));
    assert_eq!(editor.findings("stead.kdl", Some(1)), Vec::<String>::new());
    editor.end();
}

#[test]
fn an_editor_that_is_gone_ends_the_server() {
    let mut editor = Editor::new(&[("stead.kdl", PROJECT)], json!({}));
    editor.open("stead.kdl", 1, PROJECT);
    drop(editor.connection.take());
    editor.server.take().unwrap().join().unwrap().unwrap();
    assert!(Path::new(editor.folder.path()).exists());
}
