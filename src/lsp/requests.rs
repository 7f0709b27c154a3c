//! Requests of the editor, each answered from the state as it is. Nothing here waits, and nothing is written.

use super::actions::actions;
use super::calls::{self, incoming, outgoing};
use super::completion::complete;
use super::convert::{item, markdown};
use super::format::edit;
use super::hints::hints;
use super::hover::hover;
use super::links::links;
use super::navigate::{Wanted, definition, references, rename, renamed};
use super::signature::signature;
use super::state::{Here, State};
use super::symbols::{folds, outline};
use super::tokens::tokens;
use super::watch::{Disk, Look};
use lsp::request as ask;
use lsp_server::{ErrorCode, Request, Response};
use lsp_types as lsp;
use serde_json::Value;
use std::sync::PoisonError;

/// Answers a request.
pub fn answer(state: &State, request: Request) -> Response {
    use ask::Request as _;
    let Request { id, method, params } = request;
    let result = match method.as_str() {
        ask::Completion::METHOD => on::<ask::Completion>(params, |params| Ok(completion(state, &params))),
        ask::HoverRequest::METHOD => on::<ask::HoverRequest>(params, |params| Ok(hovered(state, &params))),
        ask::SignatureHelpRequest::METHOD => on::<ask::SignatureHelpRequest>(params, |params| Ok(help(state, &params))),
        ask::GotoDefinition::METHOD => on::<ask::GotoDefinition>(params, |params| Ok(defined(state, &params))),
        ask::References::METHOD => on::<ask::References>(params, |params| Ok(used(state, &params))),
        ask::DocumentHighlightRequest::METHOD => on::<ask::DocumentHighlightRequest>(params, |params| Ok(lit(state, &params))),
        ask::PrepareRenameRequest::METHOD => on::<ask::PrepareRenameRequest>(params, |params| can_rename(state, &params)),
        ask::Rename::METHOD => on::<ask::Rename>(params, |params| do_rename(state, &params)),
        ask::DocumentSymbolRequest::METHOD => on::<ask::DocumentSymbolRequest>(params, |params| Ok(symbols(state, &params))),
        ask::FoldingRangeRequest::METHOD => on::<ask::FoldingRangeRequest>(params, |params| Ok(folding(state, &params))),
        ask::DocumentLinkRequest::METHOD => on::<ask::DocumentLinkRequest>(params, |params| Ok(linked(state, &params))),
        ask::InlayHintRequest::METHOD => on::<ask::InlayHintRequest>(params, |params| Ok(hinted(state, &params))),
        ask::CodeActionRequest::METHOD => on::<ask::CodeActionRequest>(params, |params| Ok(proposed(state, params))),
        ask::Formatting::METHOD => on::<ask::Formatting>(params, |params| Ok(formatted(state, &params))),
        ask::SemanticTokensFullRequest::METHOD => on::<ask::SemanticTokensFullRequest>(params, |params| {
            Ok(coloured(state, &params.text_document.uri, None).map(lsp::SemanticTokensResult::Tokens))
        }),
        ask::SemanticTokensRangeRequest::METHOD => on::<ask::SemanticTokensRangeRequest>(params, |params| {
            Ok(coloured(state, &params.text_document.uri, Some(params.range)).map(lsp::SemanticTokensRangeResult::Tokens))
        }),
        ask::CallHierarchyPrepare::METHOD => on::<ask::CallHierarchyPrepare>(params, |params| Ok(hierarchy(state, &params))),
        ask::CallHierarchyIncomingCalls::METHOD => {
            on::<ask::CallHierarchyIncomingCalls>(params, |params| Ok(callers(state, &params.item)))
        }
        ask::CallHierarchyOutgoingCalls::METHOD => {
            on::<ask::CallHierarchyOutgoingCalls>(params, |params| Ok(callees(state, &params.item)))
        }
        _ => Err((ErrorCode::MethodNotFound, format!("there is no request {method}"))),
    };
    match result {
        Ok(value) => Response::new_ok(id, value),
        Err((code, message)) => Response::new_err(id, code as i32, message),
    }
}

/// Reads the parameters of a request, and writes its result.
fn on<R: ask::Request>(
    params: Value,
    answer: impl FnOnce(R::Params) -> Result<R::Result, String>,
) -> Result<Value, (ErrorCode, String)> {
    let params = serde_json::from_value(params).map_err(|error| (ErrorCode::InvalidParams, error.to_string()))?;
    let result = answer(params).map_err(|why| (ErrorCode::RequestFailed, why))?;
    serde_json::to_value(result).map_err(|error| (ErrorCode::InternalError, error.to_string()))
}

fn here(state: &State, place: &lsp::TextDocumentPositionParams) -> Option<(Here, lsp::Position)> {
    Some((state.here(&place.text_document.uri)?, place.position))
}

fn completion(state: &State, params: &lsp::CompletionParams) -> Option<lsp::CompletionResponse> {
    let (here, position) = here(state, &params.text_document_position)?;
    let disk = Disk { folder: &here.folder, seen: &state.seen, looks: &state.looks };
    let found = complete(&here.at(position), &disk);
    let words = here.words();
    let items = found
        .list
        .into_iter()
        .enumerate()
        .map(|(order, one)| words.candidate(&here.document, one, order, state.snippets))
        .collect();
    Some(lsp::CompletionResponse::List(lsp::CompletionList { is_incomplete: found.partial, items }))
}

fn hovered(state: &State, params: &lsp::HoverParams) -> Option<lsp::Hover> {
    let (here, position) = here(state, &params.text_document_position_params)?;
    let found = hover(&here.at(position))?;
    let range = Some(here.words().range(&here.document, &found.range));
    Some(lsp::Hover { contents: lsp::HoverContents::Markup(markdown(found.text)), range })
}

fn help(state: &State, params: &lsp::SignatureHelpParams) -> Option<lsp::SignatureHelp> {
    let (here, position) = here(state, &params.text_document_position_params)?;
    let found = signature(&here.at(position))?;
    let active = found.active.and_then(|active| u32::try_from(active).ok());
    let part = |(label, doc): (String, String)| lsp::ParameterInformation {
        label: lsp::ParameterLabel::Simple(label),
        documentation: Some(lsp::Documentation::String(doc)),
    };
    let signature = lsp::SignatureInformation {
        label: found.label,
        documentation: Some(lsp::Documentation::String(found.doc)),
        parameters: Some(found.parts.into_iter().map(part).collect()),
        active_parameter: active,
    };
    Some(lsp::SignatureHelp { signatures: vec![signature], active_signature: Some(0), active_parameter: active })
}

fn defined(state: &State, params: &lsp::GotoDefinitionParams) -> Option<lsp::GotoDefinitionResponse> {
    let (here, position) = here(state, &params.text_document_position_params)?;
    let words = here.words();
    let found = definition(&here.at(position));
    Some(lsp::GotoDefinitionResponse::Array(found.iter().filter_map(|spot| words.location(spot)).collect()))
}

fn used(state: &State, params: &lsp::ReferenceParams) -> Option<Vec<lsp::Location>> {
    let (here, position) = here(state, &params.text_document_position)?;
    let words = here.words();
    let wanted = if params.context.include_declaration { Wanted::All } else { Wanted::Uses };
    Some(references(&here.at(position), wanted).iter().filter_map(|spot| words.location(spot)).collect())
}

fn lit(state: &State, params: &lsp::DocumentHighlightParams) -> Option<Vec<lsp::DocumentHighlight>> {
    let (here, position) = here(state, &params.text_document_position_params)?;
    let here_only = references(&here.at(position), Wanted::All).into_iter().filter(|spot| spot.file == here.file);
    let one = |spot: super::project::Spot| lsp::DocumentHighlight {
        range: here.words().range(&here.document, &spot.range),
        kind: Some(lsp::DocumentHighlightKind::TEXT),
    };
    Some(here_only.map(one).collect())
}

fn can_rename(state: &State, params: &lsp::TextDocumentPositionParams) -> Result<Option<lsp::PrepareRenameResponse>, String> {
    let Some((here, position)) = here(state, params) else { return Ok(None) };
    let range = renamed(&here.at(position))?;
    let placeholder = here.document.text[range.clone()].to_owned();
    Ok(Some(lsp::PrepareRenameResponse::RangeWithPlaceholder { range: here.words().range(&here.document, &range), placeholder }))
}

fn do_rename(state: &State, params: &lsp::RenameParams) -> Result<Option<lsp::WorkspaceEdit>, String> {
    let Some((here, position)) = here(state, &params.text_document_position) else { return Ok(None) };
    Ok(Some(here.words().edits(&rename(&here.at(position), &params.new_name)?)))
}

fn symbols(state: &State, params: &lsp::DocumentSymbolParams) -> Option<lsp::DocumentSymbolResponse> {
    let here = state.here(&params.text_document.uri)?;
    let words = here.words();
    let found = outline(&here.document).into_iter().map(|one| words.symbol(&here.document, one));
    Some(lsp::DocumentSymbolResponse::Nested(found.collect()))
}

fn folding(state: &State, params: &lsp::FoldingRangeParams) -> Option<Vec<lsp::FoldingRange>> {
    let here = state.here(&params.text_document.uri)?;
    let line = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let one = |fold: super::symbols::Fold| lsp::FoldingRange {
        start_line: line(fold.from),
        end_line: line(fold.to),
        kind: Some(if fold.comment { lsp::FoldingRangeKind::Comment } else { lsp::FoldingRangeKind::Region }),
        ..lsp::FoldingRange::default()
    };
    Some(folds(&here.document).into_iter().map(one).collect())
}

fn linked(state: &State, params: &lsp::DocumentLinkParams) -> Option<Vec<lsp::DocumentLink>> {
    let here = state.here(&params.text_document.uri)?;
    let words = here.words();
    let one = |link: super::links::Link| lsp::DocumentLink {
        range: words.range(&here.document, &link.range),
        target: words.uri(&link.path),
        tooltip: None,
        data: None,
    };
    Some(links(&here.document, &here.file).into_iter().map(one).collect())
}

fn hinted(state: &State, params: &lsp::InlayHintParams) -> Option<Vec<lsp::InlayHint>> {
    let here = state.here(&params.text_document.uri)?;
    // The answer is what is known now; if the thread has ended, so does this program.
    let _ = state.looks.send(Look::Project(here.root.clone()));
    let one = |hint: super::hints::Hint| lsp::InlayHint {
        position: here.words().range(&here.document, &(hint.offset..hint.offset)).start,
        label: lsp::InlayHintLabel::String(hint.label),
        kind: None,
        text_edits: None,
        tooltip: None,
        padding_left: Some(true),
        padding_right: None,
        data: None,
    };
    Some(hints(&here.at(params.range.start), &here.bytes(params.range)).into_iter().map(one).collect())
}

fn proposed(state: &State, params: lsp::CodeActionParams) -> Option<lsp::CodeActionResponse> {
    let here = state.here(&params.text_document.uri)?;
    let checked = state.results.lock().unwrap_or_else(PoisonError::into_inner).get(&here.root).cloned();
    // Places in another version of the text are other places.
    let current = checked.filter(|checked| checked.versions.get(&here.file) == Some(&here.version));
    let findings = current.as_ref().map_or(&[][..], |checked| &checked.findings);
    let found = actions(&here.at(params.range.start), &here.bytes(params.range), findings);
    let words = here.words();
    let one = |action: super::actions::Action| {
        let about = action.finding.and_then(|number| {
            let finding = findings.get(number)?;
            let code = Some(lsp::NumberOrString::String(finding.code.to_owned()));
            params
                .context
                .diagnostics
                .iter()
                .find(|shown| shown.code == code && shown.message.starts_with(&finding.message))
                .cloned()
        });
        lsp::CodeActionOrCommand::CodeAction(lsp::CodeAction {
            kind: Some(match action.finding {
                Some(_) => lsp::CodeActionKind::QUICKFIX,
                None => lsp::CodeActionKind::REFACTOR_REWRITE,
            }),
            is_preferred: action.finding.map(|_| true),
            diagnostics: about.map(|shown| vec![shown]),
            edit: Some(words.edits(&action.edits)),
            title: action.title,
            ..lsp::CodeAction::default()
        })
    };
    Some(found.into_iter().map(one).collect())
}

fn formatted(state: &State, params: &lsp::DocumentFormattingParams) -> Option<Vec<lsp::TextEdit>> {
    let here = state.here(&params.text_document.uri)?;
    let one = |(range, new_text): (std::ops::Range<usize>, String)| lsp::TextEdit {
        range: here.words().range(&here.document, &range),
        new_text,
    };
    Some(edit(&here.document.text).into_iter().map(one).collect())
}

fn coloured(state: &State, uri: &lsp::Uri, range: Option<lsp::Range>) -> Option<lsp::SemanticTokens> {
    let here = state.here(uri)?;
    let within = range.map_or(0..here.document.text.len(), |range| here.bytes(range));
    let data = here.words().tokens(&here.document, &tokens(&here.document, &within));
    Some(lsp::SemanticTokens { result_id: None, data })
}

fn hierarchy(state: &State, params: &lsp::CallHierarchyPrepareParams) -> Option<Vec<lsp::CallHierarchyItem>> {
    let (here, position) = here(state, &params.text_document_position_params)?;
    let found = calls::item_at(&here.at(position))?;
    Some(here.words().call(&found).into_iter().collect())
}

fn callers(state: &State, call: &lsp::CallHierarchyItem) -> Option<Vec<lsp::CallHierarchyIncomingCall>> {
    let here = state.here(&call.uri)?;
    let words = here.words();
    let one =
        |edge: calls::Edge| Some(lsp::CallHierarchyIncomingCall { from: words.call(&edge)?, from_ranges: words.places(&edge) });
    Some(incoming(&here.project, &item(call)).into_iter().filter_map(one).collect())
}

fn callees(state: &State, call: &lsp::CallHierarchyItem) -> Option<Vec<lsp::CallHierarchyOutgoingCall>> {
    let here = state.here(&call.uri)?;
    let words = here.words();
    let one =
        |edge: calls::Edge| Some(lsp::CallHierarchyOutgoingCall { to: words.call(&edge)?, from_ranges: words.places(&edge) });
    Some(outgoing(&here.project, &item(call)).into_iter().filter_map(one).collect())
}
