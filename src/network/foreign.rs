//! Other nftables tables on the host: follows their forward chains for one of our packets and reports which chains drop it.
//!
//! All chains of a hook are run: what ours accepts, another may still drop (nft(8), "Verdict statement"). Rules
//! are evaluated only as far as they depend on a bridge's name and on a translated destination. A rule with any
//! other condition is assumed not to match, so only what blocks in general is reported.

use super::firewall::{header, interface};
use super::nf_tables::*;
use crate::model::{Context, Result};
use crate::sys::netlink::{Batch, DUMP, Family, Message, Netlink, attributes};
use std::collections::BTreeMap;

/// What blocks forwarded packets of a bridge in other tables.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Blockers {
    /// Each chain with its table, and what in it drops packets.
    pub chains: Vec<String>,
    /// Whether Docker's chain for users' rules exists.
    pub docker: bool,
    /// Whether firewalld's table is among those that drop packets.
    pub firewalld: bool,
}

/// The direction of a packet.
#[derive(Clone, Copy)]
enum Way {
    /// From the bridge to another host.
    Out,
    /// To the bridge, through a published port.
    In,
}

/// A chain: whether the forward hook calls it, whether its policy is to drop, and its rules.
#[derive(Default)]
struct Chain {
    hooked: bool,
    drops: bool,
    rules: Vec<Rule>,
}

/// A rule: its conditions and its verdict.
struct Rule {
    tests: Vec<Test>,
    verdict: Verdict,
}

enum Test {
    /// The name of the incoming or outgoing interface begins with these bytes, or does not.
    Incoming(Vec<u8>, bool),
    Outgoing(Vec<u8>, bool),
    /// The destination was translated.
    Translated,
    /// A condition that cannot be evaluated here.
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

/// The chains of other tables that drop what a bridge forwards: they win over an accept in our table.
///
/// # Errors
/// Fails when the netlink request fails.
pub fn blockers(own: &str, bridge: &str) -> Result<Blockers> {
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

/// The final verdict of a chain for a packet, or `None` when the packet reaches the end of the chain.
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

fn read() -> Result<Chains> {
    let socket = Netlink::open(Family::Netfilter).context(|| "cannot open a netlink socket".into())?;
    let dump = |kind: u16| {
        let mut batch = Batch::default();
        batch.begin(kind, DUMP, &header(0));
        socket.send(&batch).context(|| "cannot read the host's ruleset".into())
    };
    let of_forwarding = |message: &&Message| matches!(message.body.first(), Some(&IPV4 | &INET));
    let mut chains = Chains::new();
    for message in dump(GETCHAIN)?.iter().filter(|message| message.kind == NEWCHAIN).filter(of_forwarding) {
        let found = message.attributes(4);
        let hook = get(&found, NFTA_CHAIN_HOOK).map(attributes).and_then(|hook| number(get(&hook, NFTA_HOOK_HOOKNUM)));
        let filter = text(get(&found, NFTA_CHAIN_TYPE)) == "filter";
        let drops = number(get(&found, NFTA_CHAIN_POLICY)) == Some(DROP.unsigned_abs());
        let chain = Chain { hooked: filter && hook == Some(FORWARD), drops, rules: Vec::new() };
        let key = (message.body[0], text(get(&found, NFTA_CHAIN_TABLE)), text(get(&found, NFTA_CHAIN_NAME)));
        chains.insert(key, chain);
    }
    for message in dump(GETRULE)?.iter().filter(|message| message.kind == NEWRULE).filter(of_forwarding) {
        let found = message.attributes(4);
        let key = (message.body[0], text(get(&found, NFTA_RULE_TABLE)), text(get(&found, NFTA_RULE_CHAIN)));
        if let (Some(chain), Some(expressions)) = (chains.get_mut(&key), get(&found, NFTA_RULE_EXPRESSIONS)) {
            chain.rules.push(rule(expressions));
        }
    }
    Ok(chains)
}

/// What the last loaded register holds.
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
        let data = get(&parts, NFTA_EXPR_DATA).map(attributes).unwrap_or_default();
        match text(get(&parts, NFTA_EXPR_NAME)).as_str() {
            "meta" => {
                loaded = match number(get(&data, NFTA_META_KEY)) {
                    Some(NFT_META_IIFNAME) => Loaded::Incoming,
                    Some(NFT_META_OIFNAME) => Loaded::Outgoing,
                    _ => Loaded::Unknown,
                };
            }
            "ct" => {
                let key = number(get(&data, NFTA_CT_KEY));
                loaded = if key == Some(NFT_CT_STATUS) { Loaded::Status } else { Loaded::Unknown };
            }
            "bitwise" => {
                let mask = get(&data, NFTA_BITWISE_MASK).map(attributes);
                let mask = mask.and_then(|mask| get(&mask, NFTA_DATA_VALUE)).unwrap_or_default();
                let translated = mask == IPS_DST_NAT.to_ne_bytes();
                loaded = if matches!(loaded, Loaded::Status) && translated { Loaded::Status } else { Loaded::Unknown };
            }
            "cmp" => {
                let equal = number(get(&data, NFTA_CMP_OP)) == Some(NFT_CMP_EQ);
                let value = get(&data, NFTA_CMP_DATA).map(attributes);
                let value = value.and_then(|value| get(&value, NFTA_DATA_VALUE)).unwrap_or_default();
                rule.tests.push(match loaded {
                    Loaded::Incoming => Test::Incoming(value.to_owned(), equal),
                    Loaded::Outgoing => Test::Outgoing(value.to_owned(), equal),
                    Loaded::Status if !equal => Test::Translated,
                    _ => Test::Other,
                });
            }
            "immediate" => {
                let value = get(&data, NFTA_IMMEDIATE_DATA).map(attributes).unwrap_or_default();
                let verdict = get(&value, NFTA_DATA_VERDICT).map(attributes).unwrap_or_default();
                let chain = || text(get(&verdict, NFTA_VERDICT_CHAIN));
                rule.verdict = match number(get(&verdict, NFTA_VERDICT_CODE)).map(u32::cast_signed) {
                    Some(DROP) => Verdict::Drop("drop"),
                    Some(ACCEPT) => Verdict::Accept,
                    Some(JUMP) => Verdict::Jump(chain()),
                    Some(GOTO) => Verdict::Goto(chain()),
                    Some(RETURN) => Verdict::Return,
                    _ => continue,
                };
            }
            "reject" => rule.verdict = Verdict::Drop("reject"),
            "target" if text(get(&data, NFTA_TARGET_NAME)) == "REJECT" => rule.verdict = Verdict::Drop("reject"),
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
