//! Limits and privileges of containers: `limits`, `security`, `log`.

use super::*;

/// Docker's own minimum: no container starts with less.
const LEAST_MEMORY: Size = Size::mib(6);
/// The least quota of the kernel (1 ms) for each of our periods (100 ms).
const LEAST_CPUS: f64 = 0.01;

impl Decoder<'_> {
    /// Decodes limits, and refuses those that no host could apply.
    pub(super) fn limits(&mut self, node: &Tree) -> Limits {
        let found = limits(node);
        let partial = self.sink.is_partial_in(&node.place.file, &node.whole);
        let mut refuse = |child: Option<&Tree>, message: String, help: &str| {
            let place = child.map_or(&node.place, |child| &child.place).clone();
            self.sink.push(Diagnostic::error("wrong-value", place, message).help(help));
        };
        if let Some(memory) = found.memory.filter(|memory| memory.0 < LEAST_MEMORY.0) {
            refuse(node.child("memory"), format!("nothing starts with {memory} of memory"), "write \"6MiB\" or more");
        }
        if let Some(cpus) = found.cpus.filter(|cpus| *cpus > 0.0 && *cpus < LEAST_CPUS) {
            refuse(
                node.child("cpus"),
                format!("the kernel gives out no less than {LEAST_CPUS} of a processor, not {cpus}"),
                "write 0.01 or more",
            );
        }
        if let (Some(reservation), Some(memory)) = (found.memory_reservation, found.memory)
            && reservation.0 > memory.0
        {
            let message = format!("{reservation} cannot be reserved for a container that may use only {memory}");
            refuse(node.child("memory-reservation"), message, "write at most the size of `memory`");
        }
        if found.swap.is_some() && found.memory.is_none() && !partial {
            refuse(node.child("swap"), "`swap` has no meaning without `memory`".into(), "add memory \"256MiB\"");
        }
        for (child, limit) in node.all("ulimit").zip(&found.ulimits) {
            if limit.soft > limit.hard {
                refuse(Some(child), format!("`soft` {} is above `hard` {}", limit.soft, limit.hard), "write a smaller `soft`");
            }
        }
        let empty = node.all("ulimit").find(|child| child.prop("soft").is_none() && child.prop("hard").is_none());
        if let Some(child) = empty {
            refuse(Some(child), "this ulimit sets no limit".into(), "for example: ulimit \"nofile\" soft=1024 hard=2048");
        }
        for child in node.all("io").filter(|child| child.props.is_empty()) {
            refuse(Some(child), "this `io` limits nothing".into(), "for example: io \"/dev/sda\" read=\"10MiB\"");
        }
        found
    }

    pub(super) fn security(&mut self, node: &Tree) -> Option<Security> {
        let flag = |name: &str| node.first(name).and_then(as_flag);
        let mut found = Security {
            seccomp: node.child("seccomp").and_then(Tree::text),
            no_new_privileges: flag("no-new-privileges")?,
            privileged: flag("privileged")?,
            read_only: flag("read-only")?,
            ..Security::default()
        };
        for child in node.all("capability") {
            for (property, list) in [("add", &mut found.add), ("drop", &mut found.drop)] {
                let Some(text) = child.prop_text(property) else { continue };
                let upper = text.to_uppercase();
                let name = upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned();
                if name == "ALL" || capability::number(&name).is_some() {
                    list.push(name);
                    continue;
                }
                let known: Vec<String> = capability::NAMES.iter().map(|name| name.to_lowercase()).collect();
                let near = nearest(&name.to_lowercase(), known.iter().map(String::as_str));
                let near = near.map(|near| format!("write \"{}\"", near.to_uppercase()));
                let message = format!("{text:?} is not a capability");
                self.sink.push(Diagnostic::error("wrong-value", child.prop_place(property), message).maybe_help(near));
            }
        }
        Some(found)
    }
}

fn limits(node: &Tree) -> Limits {
    let first = |name: &str| node.first(name);
    let size = |name: &str| first(name).and_then(as_size);
    Limits {
        cpus: first("cpus").and_then(|value| match value {
            #[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 processors")]
            Value::Integer(number) => Some(*number as f64),
            Value::Number(number) => Some(*number),
            _ => None,
        }),
        cpu_weight: first("cpu-weight").and_then(as_u32),
        cpuset: first("cpuset").and_then(as_text),
        memory: size("memory"),
        memory_reservation: size("memory-reservation"),
        swap: size("swap"),
        pids: first("pids").and_then(as_u32),
        io: node.all("io").filter_map(io_limit).collect(),
        hugepages: node
            .all("hugepages")
            .filter_map(|child| Some((child.arg(0).and_then(as_size)?, child.prop("limit").and_then(as_size)?)))
            .collect(),
        ulimits: node.all("ulimit").filter_map(ulimit).collect(),
        oom_score: first("oom-score").and_then(as_i32),
        log: size("log"),
    }
}

fn io_limit(node: &Tree) -> Option<IoLimit> {
    Some(IoLimit {
        device: node.text()?,
        read: node.prop("read").and_then(as_size),
        write: node.prop("write").and_then(as_size),
        read_operations: node.prop("read-operations").and_then(as_u32),
        write_operations: node.prop("write-operations").and_then(as_u32),
        weight: node.prop("weight").and_then(as_u32),
    })
}

fn ulimit(node: &Tree) -> Option<Ulimit> {
    let number = |name: &str| match node.prop(name) {
        Some(Value::Integer(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    let (soft, hard) = (number("soft"), number("hard"));
    Some(Ulimit { name: node.text()?, soft: soft.or(hard)?, hard: hard.or(soft)? })
}

pub(super) fn log(node: &Tree) -> Option<Log> {
    let driver =
        node.child("driver").and_then(|driver| Some(LogDriver { name: driver.text()?, address: driver.prop_text("address") }));
    Some(Log { size: node.prop("size").and_then(as_size)?, files: node.prop("files").and_then(as_u32)?, driver })
}
