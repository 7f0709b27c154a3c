//! The stages that a target needs → images, in order.

use super::Request;
use super::stage::{Given, Made, PREDEFINED, Stages, Surroundings, find, find_named, sources_of};
use super::syntax::{Instruction, parse};
use super::write::{Writer, check_reference};
use crate::model::{Name, PLATFORM};
use crate::project::Base;
use crate::spec::diagnose::{Diagnostic, Sink};
use std::collections::{BTreeMap, BTreeSet};

impl Stages {
    /// The stages that the target needs, as images; the target has the image's own name.
    pub fn images(self, request: &Request, around: &dyn Surroundings, sink: &mut Sink) -> Vec<Made> {
        let mut needed = BTreeSet::from([self.target]);
        let mut queue = vec![self.target];
        while let Some(index) = queue.pop() {
            let stage = &self.stages[index];
            let held = self.triggered(index, around);
            let copied = stage.instructions.iter().chain(&held).flat_map(sources_of);
            let copied = copied.filter_map(|name| find(&self.stages, &name, index));
            for other in copied.chain(find_named(&self.stages, &stage.from, index)) {
                if needed.insert(other) {
                    queue.push(other);
                }
            }
        }
        let mut ends: BTreeMap<usize, Given> = BTreeMap::new();
        let mut used = BTreeSet::new();
        let mut made = Vec::new();
        for index in needed {
            let stage = &self.stages[index];
            if let Some(foreign) = &stage.foreign {
                let message = format!("the platform {foreign} is not this machine's, {PLATFORM}");
                sink.push(Diagnostic::error("dockerfile", stage.place.clone(), message));
            }
            let mut outside = Vec::new();
            let (base, given) = match find_named(&self.stages, &stage.from, index) {
                Some(other) => (Base::Image(self.image_of(other, request)), ends.get(&other).cloned().unwrap_or_default()),
                None if stage.from == "scratch" => (Base::Scratch, Given::default()),
                None => {
                    let name = around.image(&stage.from).unwrap_or_else(|| {
                        if let Err(why) = check_reference(&stage.from) {
                            sink.push(Diagnostic::error("dockerfile", stage.place.clone(), why));
                        }
                        outside.push((stage.from.clone(), stage.place.clone()));
                        Name::of_reference(&stage.from)
                    });
                    let given = around.given(&name);
                    (Base::Image(name), given)
                }
            };
            let mut writer = Writer::new(self.escape, request, &self, index, given, around);
            let image = writer.write(base, stage, sink);
            used.extend(writer.used);
            outside.extend(writer.outside);
            let ended = Given { triggers: image.onbuild.clone(), arguments: writer.arguments, ..writer.given };
            ends.insert(index, ended);
            made.push(Made { name: self.image_of(index, request), image, places: writer.places, outside });
        }
        for name in request.arguments.keys() {
            let known = used.contains(name) || self.global.contains_key(name) || PREDEFINED.contains(&name.as_str());
            if !known {
                let message = format!("`{}` has no ARG {name}", request.path);
                sink.push(Diagnostic::warning("unused-argument", request.place.clone(), message));
            }
        }
        made
    }

    /// The ONBUILD instructions of a stage's base: they may name stages of this file.
    fn triggered(&self, index: usize, around: &dyn Surroundings) -> Vec<Instruction> {
        let stage = &self.stages[index];
        let texts: Vec<String> = match find_named(&self.stages, &stage.from, index) {
            Some(other) => {
                let held = self.stages[other].instructions.iter().filter(|one| one.name == "ONBUILD");
                held.map(|one| one.rest.clone()).collect()
            }
            None if stage.from == "scratch" => Vec::new(),
            None => around.image(&stage.from).map(|name| around.given(&name).triggers).unwrap_or_default(),
        };
        // Errors in them are reported when they are executed.
        let mut sink = Sink::default();
        texts.iter().flat_map(|text| parse(&stage.place.file, text, &mut sink).instructions).collect()
    }
}
