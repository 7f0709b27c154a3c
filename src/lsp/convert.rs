//! Our values as the protocol's. Only this file and those that talk to the editor know the protocol.

use super::calls::{Edge, Item};
use super::candidate::{Candidate, Shape, Snippets, plain};
use super::document::Document;
use super::edit::Edit;
use super::names::Kind;
use super::positions::{Encoding, Lines, Position, columns};
use super::project::{Project, Spot};
use super::symbols::Symbol;
use super::tokens::Token;
use super::uri::uri_of;
use crate::spec::{Diagnostic, Severity};
use lsp_types as lsp;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

/// The legend of semantic tokens, in the order of `TokenKind`.
pub const TOKEN_TYPES: [lsp::SemanticTokenType; 8] = [
    lsp::SemanticTokenType::KEYWORD,
    lsp::SemanticTokenType::PROPERTY,
    lsp::SemanticTokenType::STRING,
    lsp::SemanticTokenType::NUMBER,
    lsp::SemanticTokenType::COMMENT,
    lsp::SemanticTokenType::ENUM_MEMBER,
    lsp::SemanticTokenType::VARIABLE,
    lsp::SemanticTokenType::PARAMETER,
];

pub fn position(position: Position) -> lsp::Position {
    lsp::Position { line: position.line, character: position.character }
}

pub fn our_position(position: lsp::Position) -> Position {
    Position { line: position.line, character: position.character }
}

/// A range of a text.
pub fn range_in(text: &str, lines: &Lines, range: &Range<usize>, encoding: Encoding) -> lsp::Range {
    let at = |offset| position(lines.position(text, offset, encoding));
    lsp::Range { start: at(range.start), end: at(range.end) }
}

/// What conversions need to know: how columns are counted, and where the files are.
#[derive(Clone, Copy)]
pub struct Words<'a> {
    pub encoding: Encoding,
    pub project: &'a Project,
    pub folder: &'a Path,
    /// The URIs of open files as the editor writes them, by their paths relative to the project's directory.
    pub uris: &'a BTreeMap<String, lsp::Uri>,
}

impl Words<'_> {
    pub fn range(&self, document: &Document, range: &Range<usize>) -> lsp::Range {
        range_in(&document.text, &document.lines, range, self.encoding)
    }

    pub fn uri(&self, file: &str) -> Option<lsp::Uri> {
        self.uris.get(file).cloned().or_else(|| uri_of(&self.folder.join(file)))
    }

    pub fn location(&self, spot: &Spot) -> Option<lsp::Location> {
        let range = self.project.documents.get(&spot.file).map(|document| self.range(document, &spot.range));
        Some(lsp::Location { uri: self.uri(&spot.file)?, range: range.unwrap_or_default() })
    }

    /// Edits, by their files.
    #[expect(clippy::mutable_key_type, reason = "the protocol's type has URIs as keys, and nobody changes them")]
    pub fn edits(&self, edits: &[Edit]) -> lsp::WorkspaceEdit {
        let mut changes: HashMap<lsp::Uri, Vec<lsp::TextEdit>> = HashMap::new();
        for edit in edits {
            let Some(location) = self.location(&edit.spot) else { continue };
            changes.entry(location.uri).or_default().push(lsp::TextEdit { range: location.range, new_text: edit.text.clone() });
        }
        lsp::WorkspaceEdit { changes: Some(changes), ..lsp::WorkspaceEdit::default() }
    }

    pub fn candidate(&self, document: &Document, candidate: Candidate, order: usize, snippets: Snippets) -> lsp::CompletionItem {
        let range = self.range(document, &candidate.replace);
        let written = document.text.get(candidate.replace.clone()).unwrap_or_default();
        let documentation = (!candidate.doc.is_empty()).then(|| lsp::Documentation::MarkupContent(markdown(candidate.doc)));
        // Editors compare what is typed with this: with its quote, where the quote is typed already.
        let filter = if written.starts_with('"') { plain(&candidate.insert) } else { candidate.label.clone() };
        let (insert, format) = match snippets {
            Snippets::Understood => (candidate.insert, lsp::InsertTextFormat::SNIPPET),
            Snippets::Unknown => (plain(&candidate.insert), lsp::InsertTextFormat::PLAIN_TEXT),
        };
        lsp::CompletionItem {
            kind: Some(match candidate.shape {
                Shape::Node => lsp::CompletionItemKind::CLASS,
                Shape::Property => lsp::CompletionItemKind::PROPERTY,
                Shape::Word => lsp::CompletionItemKind::ENUM_MEMBER,
                Shape::Name => lsp::CompletionItemKind::VARIABLE,
                Shape::File => lsp::CompletionItemKind::FILE,
                Shape::Folder => lsp::CompletionItemKind::FOLDER,
                Shape::Package => lsp::CompletionItemKind::MODULE,
            }),
            label: candidate.label,
            detail: (!candidate.detail.is_empty()).then_some(candidate.detail),
            documentation,
            insert_text_format: Some(format),
            insert_text_mode: Some(lsp::InsertTextMode::ADJUST_INDENTATION),
            sort_text: Some(format!("{order:05}")),
            filter_text: Some(filter),
            text_edit: Some(lsp::CompletionTextEdit::Edit(lsp::TextEdit { range, new_text: insert })),
            ..lsp::CompletionItem::default()
        }
    }

    #[expect(deprecated, reason = "the protocol's type has the field")]
    pub fn symbol(&self, document: &Document, symbol: Symbol) -> lsp::DocumentSymbol {
        let children = symbol.children.into_iter().map(|child| self.symbol(document, child)).collect();
        lsp::DocumentSymbol {
            kind: symbol.kind.map_or(lsp::SymbolKind::PROPERTY, symbol_kind),
            range: self.range(document, &symbol.range),
            selection_range: self.range(document, &symbol.selection),
            // An empty name is an error of the protocol.
            name: if symbol.name.is_empty() { "-".into() } else { symbol.name },
            detail: (!symbol.detail.is_empty()).then_some(symbol.detail),
            tags: None,
            deprecated: None,
            children: Some(children),
        }
    }

    /// Tokens, each relative to the one before it; one of several lines becomes several.
    pub fn tokens(&self, document: &Document, tokens: &[Token]) -> Vec<lsp::SemanticToken> {
        let (mut last, mut found) = (Position { line: 0, character: 0 }, Vec::with_capacity(tokens.len()));
        for token in tokens {
            let first = document.lines.line_of(token.range.start);
            for line in first..=document.lines.line_of(token.range.end) {
                let content = document.lines.content(&document.text, line);
                let (from, to) = (content.start.max(token.range.start), content.end.min(token.range.end));
                let Some(text) = document.text.get(from..to).filter(|text| !text.is_empty()) else { continue };
                let at = document.lines.position(&document.text, from, self.encoding);
                let same = at.line == last.line;
                found.push(lsp::SemanticToken {
                    delta_line: at.line - last.line,
                    delta_start: if same { at.character - last.character } else { at.character },
                    length: columns(text, self.encoding),
                    token_type: token.kind as u32,
                    token_modifiers_bitset: u32::from(token.declares),
                });
                last = at;
            }
        }
        found
    }

    /// A container or an image in a hierarchy.
    pub fn call(&self, edge: &Edge) -> Option<lsp::CallHierarchyItem> {
        let (node, name) = (self.location(&edge.node)?, self.location(&edge.declared)?);
        Some(lsp::CallHierarchyItem {
            name: edge.item.name.clone(),
            kind: symbol_kind(edge.item.kind),
            tags: None,
            detail: Some(edge.item.kind.word().to_owned()),
            uri: node.uri,
            range: node.range,
            selection_range: name.range,
            data: None,
        })
    }

    /// The places of an edge.
    pub fn places(&self, edge: &Edge) -> Vec<lsp::Range> {
        edge.places.iter().filter_map(|spot| Some(self.location(spot)?.range)).collect()
    }
}

/// The item that an editor asks about again.
pub fn item(call: &lsp::CallHierarchyItem) -> Item {
    let kind = if call.detail.as_deref() == Some(Kind::Image.word()) { Kind::Image } else { Kind::Container };
    Item { kind, name: call.name.clone() }
}

pub fn markdown(text: String) -> lsp::MarkupContent {
    lsp::MarkupContent { kind: lsp::MarkupKind::Markdown, value: text }
}

fn symbol_kind(kind: Kind) -> lsp::SymbolKind {
    match kind {
        Kind::Image => lsp::SymbolKind::CLASS,
        Kind::Container => lsp::SymbolKind::MODULE,
        Kind::Network => lsp::SymbolKind::INTERFACE,
        Kind::Volume => lsp::SymbolKind::OBJECT,
        Kind::Secret => lsp::SymbolKind::KEY,
        Kind::Config => lsp::SymbolKind::FILE,
        Kind::Task => lsp::SymbolKind::FUNCTION,
        Kind::Template => lsp::SymbolKind::STRUCT,
        Kind::Profile => lsp::SymbolKind::NAMESPACE,
        Kind::Param => lsp::SymbolKind::CONSTANT,
    }
}

/// A finding in a text, as the protocol's; `other` gives the second place.
pub fn finding(
    found: &Diagnostic,
    (text, lines): (&str, &Lines),
    encoding: Encoding,
    other: Option<lsp::Location>,
) -> lsp::Diagnostic {
    let place = found.place.offset..found.place.offset + found.place.length;
    let help = found.help.as_ref().map_or_else(String::new, |help| format!("\nhelp: {help}"));
    let related = found
        .other
        .as_ref()
        .zip(other)
        .map(|((_, says), location)| vec![lsp::DiagnosticRelatedInformation { location, message: says.clone() }]);
    lsp::Diagnostic {
        range: range_in(text, lines, &place, encoding),
        severity: Some(match found.severity {
            Severity::Error => lsp::DiagnosticSeverity::ERROR,
            Severity::Warning => lsp::DiagnosticSeverity::WARNING,
        }),
        code: Some(lsp::NumberOrString::String(found.code.to_owned())),
        source: Some("stead".into()),
        message: format!("{}{help}", found.message),
        related_information: related,
        tags: (found.code == "unused-image").then(|| vec![lsp::DiagnosticTag::UNNECESSARY]),
        ..lsp::Diagnostic::default()
    }
}
