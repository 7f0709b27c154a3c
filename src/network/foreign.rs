//! Other tables on the host: follows their forward chains for a packet of ours and tells who drops it.
//!
//! Chains of one hook all have a say: what ours accepts, another's may still drop (nft(8), "Verdict
//! statement"). Rules are read as far as a bridge's name and a translated destination decide; a rule
//! with any other condition is taken not to match, so only what blocks in general is told.

use super::firewall::{FORWARD, GETCHAIN, GETRULE, INET, IPV4, NEWCHAIN, NEWRULE, header, interface};
use crate::model::{Context, Outcome};
use crate::sys::netlink::{Batch, DUMP, Family, Message, Netlink, attributes};
use std::collections::BTreeMap;

/// What other tables do to forwarded packets of a bridge.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Blockers {
    /// The table, the chain and what in it drops.
    pub chains: Vec<String>,
    /// Whether Docker's own place for users' rules is there.
    pub docker: bool,
    /// Whether firewalld's table is among those that drop.
    pub firewalld: bool,
}

/// Which way a packet goes.
#[derive(Clone, Copy)]
enum Way {
    /// From the bridge to another host.
    Out,
    /// To the bridge, through a published port.
    In,
}

/// A chain as read: its policy, if it is called by the forward hook, and its rules.
#[derive(Default)]
struct Chain {
    hooked: bool,
    drops: bool,
    rules: Vec<Rule>,
}

/// A rule whose conditions can be told, and where it leads.
struct Rule {
    tests: Vec<Test>,
    verdict: Verdict,
}

enum Test {
    /// The incoming or outgoing interface begins with these bytes, or not.
    Incoming(Vec<u8>, bool),
    Outgoing(Vec<u8>, bool),
    /// The destination was translated.
    Translated,
    /// Nothing that can be decided here.
    Other,
}

#[derive(Clone)]
enum Verdict {
    Continue,
    Accept,
    Drop(&'static str),
    Jump(String),
    Goto(String),
    Return,
}

type Chains = BTreeMap<(u8, String, String), Chain>;

/// Chains of other tables that drop what a bridge forwards: an accept in ours loses to them.
///
/// # Errors
/// Those of netlink.
pub fn blockers(own: &str, bridge: &str) -> Outcome<Blockers> {
    let chains = read()?;
    let mut found = Blockers { docker: chains.keys().any(|(_, _, chain)| chain == "DOCKER-USER"), ..Blockers::default() };
    for ((family, table, name), chain) in chains.iter().filter(|((_, table, _), chain)| chain.hooked && table != own) {
        let why = [Way::Out, Way::In].into_iter().find_map(|way| {
            let end = follow(&chains, (*family, table), chain, bridge, way, 0);
            match end {
                Some(Verdict::Drop(how)) => Some(format!("a rule to {how}")),
                Some(Verdict::Accept) => None,
                _ => chain.drops.then(|| "policy drop".to_owned()),
            }
        });
        if let Some(why) = why {
            let kind = if *family == IPV4 { "ip" } else { "inet" };
            found.chains.push(format!("table {kind} {table}, chain {name}: {why}"));
            found.firewalld |= table == "firewalld";
        }
    }
    Ok(found)
}

/// Where a packet ends in a chain; nothing when it comes out at the bottom.
fn follow(chains: &Chains, place: (u8, &str), chain: &Chain, bridge: &str, way: Way, depth: u32) -> Option<Verdict> {
    // The kernel allows sixteen jumps.
    if depth > 16 {
        return None;
    }
    for rule in chain.rules.iter().filter(|rule| rule.tests.iter().all(|test| test.holds(bridge, way))) {
        let into = |name: &str| {
            let next = chains.get(&(place.0, place.1.to_owned(), name.to_owned()))?;
            follow(chains, place, next, bridge, way, depth + 1)
        };
        match &rule.verdict {
            Verdict::Continue => {}
            Verdict::Return => return None,
            Verdict::Goto(name) => return into(name),
            Verdict::Jump(name) => {
                if let Some(end) = into(name) {
                    return Some(end);
                }
            }
            end => return Some(end.clone()),
        }
    }
    None
}

impl Test {
    fn holds(&self, bridge: &str, way: Way) -> bool {
        let begins = |is_bridge: bool, prefix: &[u8]| is_bridge && interface(bridge).starts_with(prefix);
        match self {
            Self::Incoming(prefix, wanted) => begins(matches!(way, Way::Out), prefix) == *wanted,
            Self::Outgoing(prefix, wanted) => begins(matches!(way, Way::In), prefix) == *wanted,
            Self::Translated => matches!(way, Way::In),
            Self::Other => false,
        }
    }
}

fn read() -> Outcome<Chains> {
    let socket = Netlink::open(Family::Netfilter).doing(|| "cannot open a netlink socket".into())?;
    let dump = |kind: u16| {
        let mut batch = Batch::default();
        batch.begin(kind, DUMP, &header(0));
        socket.send(&batch).doing(|| "cannot read the host's ruleset".into())
    };
    let of_forwarding = |message: &&Message| matches!(message.body.first(), Some(&IPV4 | &INET));
    let mut chains = Chains::new();
    for message in dump(GETCHAIN)?.iter().filter(|message| message.kind == NEWCHAIN).filter(of_forwarding) {
        let found = message.attributes(4);
        let hook = get(&found, 4).map(attributes).and_then(|hook| number(get(&hook, 1)));
        let filter = text(get(&found, 7)) == "filter";
        let chain =
            Chain { hooked: filter && hook == Some(FORWARD), drops: number(get(&found, 5)) == Some(0), rules: Vec::new() };
        chains.insert((message.body[0], text(get(&found, 1)), text(get(&found, 3))), chain);
    }
    for message in dump(GETRULE)?.iter().filter(|message| message.kind == NEWRULE).filter(of_forwarding) {
        let found = message.attributes(4);
        let key = (message.body[0], text(get(&found, 1)), text(get(&found, 2)));
        if let (Some(chain), Some(expressions)) = (chains.get_mut(&key), get(&found, 4)) {
            chain.rules.push(rule(expressions));
        }
    }
    Ok(chains)
}

/// What the register that was loaded last holds.
#[derive(Clone, Copy)]
enum Loaded {
    Incoming,
    Outgoing,
    Status,
    Unknown,
}

fn rule(expressions: &[u8]) -> Rule {
    let mut rule = Rule { tests: Vec::new(), verdict: Verdict::Continue };
    let mut loaded = Loaded::Unknown;
    for (_, expression) in attributes(expressions) {
        let parts = attributes(expression);
        let data = get(&parts, 2).map(attributes).unwrap_or_default();
        match text(get(&parts, 1)).as_str() {
            "meta" => {
                loaded = match number(get(&data, 2)) {
                    Some(6) => Loaded::Incoming,
                    Some(7) => Loaded::Outgoing,
                    _ => Loaded::Unknown,
                };
            }
            "ct" => loaded = if number(get(&data, 2)) == Some(2) { Loaded::Status } else { Loaded::Unknown },
            "bitwise" => {
                let mask = get(&data, 4).map(attributes).and_then(|mask| get(&mask, 1)).unwrap_or_default();
                let translated = mask == (1u32 << 5).to_ne_bytes();
                loaded = if matches!(loaded, Loaded::Status) && translated { Loaded::Status } else { Loaded::Unknown };
            }
            "cmp" => {
                let equal = number(get(&data, 2)) == Some(0);
                let value = get(&data, 3).map(attributes).and_then(|value| get(&value, 1)).unwrap_or_default();
                rule.tests.push(match loaded {
                    Loaded::Incoming => Test::Incoming(value.to_owned(), equal),
                    Loaded::Outgoing => Test::Outgoing(value.to_owned(), equal),
                    Loaded::Status if !equal => Test::Translated,
                    _ => Test::Other,
                });
            }
            "immediate" => {
                let verdict = get(&data, 2).map(attributes).and_then(|value| get(&value, 2)).map(attributes).unwrap_or_default();
                let chain = || text(get(&verdict, 2));
                rule.verdict = match number(get(&verdict, 1)).map(u32::cast_signed) {
                    Some(0) => Verdict::Drop("drop"),
                    Some(1) => Verdict::Accept,
                    Some(-3) => Verdict::Jump(chain()),
                    Some(-4) => Verdict::Goto(chain()),
                    Some(-5) => Verdict::Return,
                    _ => continue,
                };
            }
            "reject" => rule.verdict = Verdict::Drop("reject"),
            "target" if text(get(&data, 1)) == "REJECT" => rule.verdict = Verdict::Drop("reject"),
            "counter" | "log" | "target" => {}
            _ => rule.tests.push(Test::Other),
        }
    }
    rule
}

fn get<'a>(attributes: &[(u16, &'a [u8])], kind: u16) -> Option<&'a [u8]> {
    attributes.iter().find(|(found, _)| *found == kind).map(|(_, value)| *value)
}

fn text(value: Option<&[u8]>) -> String {
    let value = value.unwrap_or_default();
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

fn number(value: Option<&[u8]>) -> Option<u32> {
    value.and_then(|value| value.try_into().ok()).map(u32::from_be_bytes)
}
