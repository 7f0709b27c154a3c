//! Reads values out of checked nodes: arguments, properties, children, by kind.

use super::super::grammar;
use super::super::tree::{Tree, Value};
use crate::model::{Duration, Location, Name, Size};
use std::net::Ipv4Addr;

impl Tree {
    pub(super) fn arg(&self, index: usize) -> Option<&Value> {
        self.args.get(index).map(|entry| &entry.value)
    }

    pub(super) fn text(&self) -> Option<String> {
        self.arg(0).and_then(as_text)
    }

    pub(super) fn words(&self) -> Vec<String> {
        self.args.iter().filter_map(|entry| as_text(&entry.value)).collect()
    }

    pub(super) fn name(&self) -> Option<Name> {
        Name::parse(&self.text()?).ok()
    }

    pub(super) fn prop(&self, name: &str) -> Option<&Value> {
        self.props.iter().find(|(other, _)| other == name).map(|(_, entry)| &entry.value)
    }

    pub(super) fn prop_text(&self, name: &str) -> Option<String> {
        self.prop(name).and_then(as_text)
    }

    pub(super) fn prop_place(&self, name: &str) -> Location {
        let found = self.props.iter().find(|(other, _)| other == name);
        found.map_or(&self.place, |(_, entry)| &entry.place).clone()
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.prop(name).and_then(as_flag)
    }

    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The first argument of a child.
    pub(super) fn first(&self, name: &str) -> Option<&Value> {
        self.child(name)?.arg(0)
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }
}

pub(super) fn as_text(value: &Value) -> Option<String> {
    if let Value::Text(text) = value { Some(text.clone()) } else { None }
}

pub(super) fn as_flag(value: &Value) -> Option<bool> {
    if let Value::Bool(truth) = value { Some(*truth) } else { None }
}

pub(super) fn as_u32(value: &Value) -> Option<u32> {
    if let Value::Integer(number) = value { u32::try_from(*number).ok() } else { None }
}

pub(super) fn as_i32(value: &Value) -> Option<i32> {
    if let Value::Integer(number) = value { i32::try_from(*number).ok() } else { None }
}

pub(super) fn as_span(value: &Value) -> Option<Duration> {
    Duration::parse(&as_text(value)?).ok()
}

pub(super) fn as_size(value: &Value) -> Option<Size> {
    Size::parse(&as_text(value)?).ok()
}

pub(super) fn as_address(value: &Value) -> Option<Ipv4Addr> {
    as_text(value)?.parse().ok()
}

pub(super) fn as_mode(value: &Value) -> Option<u32> {
    grammar::mode(&as_text(value)?)
}
