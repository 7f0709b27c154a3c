//! Networks: what containers and builds can reach on the host, where a published port leads, who owns it, and what is
//! left of it all.
//!
//! Tests that change the whole host (forwarding, a flush) run in a network namespace of their own.

use crate::ground::{SLEEP, ground, is_root, tool};
use crate::world::{Ran, World, eventually};
use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The last nodes of a container that answers each connection with its host name.
const SERVER: &str = r#"stop-grace "50ms"; cmd "port" "tcp" "0.0.0.0" "80""#;

/// A network namespace with loopback up that plays a host of its own; it ends with everything in it.
struct Host(Child);

impl Host {
    fn new() -> Self {
        let child = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap();
        let host = Self(child);
        eventually("the namespace is there", || {
            let of = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
            let name = fs::read_to_string(format!("/proc/{}/comm", host.0.id())).unwrap_or_default();
            name.trim() == "sleep" && of(host.0.id()) != of(std::process::id())
        });
        // A new namespace inherits the machine's setting.
        host.ok("ip link set lo up && echo 0 > /proc/sys/net/ipv4/ip_forward");
        host
    }

    fn enter(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.id().to_string(), "-n"]).arg(program).stdin(Stdio::null());
        command
    }

    fn sh(&self, line: &str) -> Ran {
        Ran::from(self.enter("sh").args(["-c", line]).output().unwrap())
    }

    fn ok(&self, line: &str) -> String {
        let ran = self.sh(line);
        assert_eq!(ran.code, 0, "{line}\n{}{}", ran.out, ran.err);
        ran.out
    }

    /// Runs `stead` on this host.
    fn stead(&self, world: &World, args: &[&str]) -> Ran {
        let plain = world.command(args);
        let mut command = self.enter(plain.get_program());
        command.args(args).current_dir(&world.folder);
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap());
        }
        Ran::from(command.output().unwrap())
    }

    fn stead_ok(&self, world: &World, args: &[&str]) -> String {
        let ran = self.stead(world, args);
        assert_eq!(ran.code, 0, "stead {args:?}\n{}{}", ran.out, ran.err);
        ran.out
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A background process that ends with the test.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a server sends on a connection, or the error; and how long it took.
fn ask(address: &str) -> (Result<String, std::io::ErrorKind>, Duration) {
    let start = Instant::now();
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(2))?;
        // A connection that stands was accepted by a server; an emulated machine may pause for seconds.
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    };
    (ask().map_err(|error: std::io::Error| error.kind()), start.elapsed())
}

/// Fails the test unless a connection is refused; packets that reach nobody would end in a timeout.
fn refused(address: &str, when: &str) {
    assert_eq!(ask(address).0, Err(std::io::ErrorKind::ConnectionRefused), "{when}");
}

fn answers(address: &str, name: &str) {
    eventually(&format!("{name} answers"), || ask(address).0.as_deref() == Ok(name));
}

/// Another checkout of a world's project; it ends with the test, like the world.
struct Checkout<'a> {
    world: &'a World,
    folder: PathBuf,
}

impl<'a> Checkout<'a> {
    fn of(world: &'a World, name: &str) -> Self {
        let checkout = Self { world, folder: world.folder.with_file_name(name) };
        let _ = fs::remove_dir_all(&checkout.folder);
        assert!(Command::new("cp").arg("-a").args([&world.folder, &checkout.folder]).status().unwrap().success());
        checkout
    }
}

impl Drop for Checkout<'_> {
    fn drop(&mut self) {
        in_folder(self.world, &self.folder, &["down", "--volumes"]);
    }
}

fn in_folder(world: &World, folder: &Path, args: &[&str]) -> Ran {
    Ran::from(world.command(args).current_dir(folder).output().unwrap())
}

fn address_of(world: &World, folder: &Path, port: u16) -> String {
    let listed: serde_json::Value = serde_json::from_str(&in_folder(world, folder, &["ps", "--json"]).out).unwrap();
    format!("{}:{port}", listed["containers"][0]["ports"][0]["address"].as_str().unwrap())
}

#[test]
fn there_is_no_ipv6_between_containers_and_the_host() {
    if !is_root() {
        return;
    }
    let world = ground("no-ipv6", &["frame"], &format!(r#"container "c" {{ image "box"; {SLEEP}; }}"#));
    let host = Host::new();
    host.stead_ok(&world, &["up"]);
    if !host.sh("test -d /proc/sys/net/ipv6").err.is_empty() || host.sh("test -d /proc/sys/net/ipv6").code != 0 {
        crate::world::tell_skipped("this kernel has no IPv6");
        return;
    }
    // /sys shows the links of another namespace, so this lists /proc.
    let links = host.ok("ls /proc/sys/net/ipv4/conf");
    let ours: Vec<&str> = links.split_whitespace().filter(|link| link.starts_with("br-st") || link.starts_with("vst")).collect();
    assert_eq!(ours.len(), 2, "{links}");
    // Packets that arrive at a port of the bridge belong to the bridge, so only its settings count.
    for link in ours.iter().filter(|link| link.starts_with("br-st")) {
        for (setting, wanted) in [
            ("ipv6/conf", [("disable_ipv6", "1"), ("accept_ra", "0"), ("accept_redirects", "0")].as_slice()),
            ("ipv4/conf", [("accept_redirects", "0"), ("send_redirects", "0")].as_slice()),
        ] {
            for (name, value) in wanted {
                let path = format!("/proc/sys/net/{setting}/{link}/{name}");
                assert_eq!(host.ok(&format!("cat {path}")).trim(), *value, "{path}");
            }
        }
    }
    let addresses = host.ok("cat /proc/net/if_inet6");
    assert!(!ours.iter().any(|link| addresses.contains(link)), "{addresses}");
    let inside = host.stead_ok(&world, &["exec", "-T", "c", "cat", "/proc/net/if_inet6"]);
    assert!(!inside.contains("eth0"), "{inside}");
    let all = host.stead_ok(&world, &["exec", "-T", "c", "cat", "/proc/sys/net/ipv6/conf/all/disable_ipv6"]);
    assert_eq!(all.trim(), "1");
    // A router advertisement is ignored, even after somebody enables IPv6 again and flushes the rules (the second line
    // of defence).
    let gateway = host.ok("ip -4 -o addr show | sed -n 's/.* inet \\(10[^/]*\\).*/\\1/p'");
    let advertise = || {
        assert!(host.stead_ok(&world, &["exec", "-T", "c", "frame", "ra", gateway.trim()]).contains("sent"));
        std::thread::sleep(Duration::from_millis(300));
        let routes = host.ok("ip -6 route; ip -6 addr");
        assert!(!routes.contains("2001:db8:bad") && !routes.contains("fe80::bad"), "{routes}");
    };
    advertise();
    let bridge = ours.iter().find(|link| link.starts_with("br-st")).unwrap();
    host.ok(&format!("cd /proc/sys/net/ipv6/conf/{bridge} && echo 2 > accept_ra && echo 0 > disable_ipv6; nft flush ruleset"));
    advertise();
    host.stead_ok(&world, &["down"]);
}

#[test]
fn the_host_is_no_router_for_others_and_is_as_before_at_the_end() {
    if !is_root() {
        return;
    }
    let world = ground("router", &[], &format!(r#"container "c" {{ image "box"; {SLEEP}; }}"#));
    let twin = ground("router-twin", &[], &format!(r#"container "c" {{ image "box"; {SLEEP}; }}"#));
    let (host, lan, wan) = (Host::new(), Host::new(), Host::new());
    for (name, number, far) in [("lan0", 1, &lan), ("wan0", 2, &wan)] {
        host.ok(&format!(
            "ip link add {name} type veth peer name far0 netns {} && ip addr add 198.51.{number}.1/24 dev {name} && ip link set {name} up",
            far.0.id()
        ));
        far.ok(&format!(
            "ip addr add 198.51.{number}.2/24 dev far0 && ip link set far0 up && ip route add default via 198.51.{number}.1"
        ));
    }
    let forward = || host.ok("cat /proc/sys/net/ipv4/ip_forward").trim().to_owned();
    let through = || lan.sh("ping -c 1 -W 1 198.51.2.2 || busybox ping -c 1 -W 1 198.51.2.2").code == 0;
    let out = |world: &World| host.stead(world, &["exec", "-T", "c", "ping", "-c", "1", "-W", "1", "198.51.2.2"]).code == 0;
    assert_eq!(forward(), "0");
    assert!(!through());
    host.stead_ok(&world, &["up"]);
    assert_eq!(forward(), "1");
    assert!(out(&world), "a container reaches others");
    assert!(!through(), "and the host forwards for nobody else");
    // Two installations do not interfere; the last one restores the setting.
    host.stead_ok(&twin, &["up"]);
    host.stead_ok(&world, &["down"]);
    assert_eq!(forward(), "1");
    assert!(out(&twin) && !through());
    host.stead_ok(&twin, &["down"]);
    assert_eq!(forward(), "0");
    assert_eq!(host.ok("nft list tables").trim(), "", "nothing is left");
    // When `down` is killed before its end, the next `down` does the rest.
    host.stead_ok(&world, &["up"]);
    let mut command = host.enter("timeout");
    command.args(["-s", "KILL", "0.06"]).arg(crate::world::stead()).arg("down").current_dir(&world.folder);
    let _ = command.env("STEAD_ROOT", &world.root).output();
    host.stead_ok(&world, &["down"]);
    assert_eq!(forward(), "0");
    // If forwarding was on before, everything stays as it was.
    host.ok("echo 1 > /proc/sys/net/ipv4/ip_forward");
    assert!(through());
    host.stead_ok(&world, &["up"]);
    assert!(through() && out(&world));
    host.stead_ok(&world, &["down"]);
    assert_eq!(forward(), "1");
    assert!(through());
}

#[test]
fn the_hosts_loopback_stays_closed_after_a_flush() {
    if !is_root() {
        return;
    }
    let world = ground(
        "loopback",
        &["frame", "port"],
        &format!(
            r#"
network "plain"
container "c" {{ image "box"; publish 23971 to=80; {SERVER}; }}
container "d" {{ image "box"; network "plain"; {SLEEP}; }}
"#
        ),
    );
    let host = Host::new();
    let mut server = host.enter(tool("port"));
    let _server = Background(server.args(["tcp", "127.0.0.1", "23972"]).stdout(Stdio::null()).spawn().unwrap());
    host.stead_ok(&world, &["up"]);
    let published = |wanted: bool| {
        let ran = host.sh("busybox nc -w 2 127.0.0.1 23971 < /dev/null");
        assert_eq!(ran.out.contains("c-1"), wanted, "{}{}", ran.out, ran.err);
    };
    published(true);
    let gateways = host.stead_ok(&world, &["exec", "-T", "c", "ip", "route"]);
    let gateway = gateways.split_whitespace().nth(2).unwrap().to_owned();
    let attack = |when: &str| {
        for manner in [&[][..], &["tagged"]] {
            let words = [&["exec", "-T", "c", "frame", "syn", &gateway, "23972"][..], manner].concat();
            assert_eq!(host.stead_ok(&world, &words).trim(), "closed", "{when} {manner:?}");
        }
    };
    attack("before the flush");
    host.ok("nft flush ruleset");
    attack("after the flush");
    // `route_localnet` is on only where a port is published on loopback, and only for as long.
    let open = || {
        let values = host.ok("for f in /proc/sys/net/ipv4/conf/br-st*/route_localnet; do cat $f; done");
        values.split_whitespace().filter(|value| *value == "1").count()
    };
    assert_eq!(open(), 1);
    host.stead_ok(&world, &["up"]);
    published(true);
    host.stead_ok(&world, &["stop", "c"]);
    assert_eq!(open(), 0);
    host.stead_ok(&world, &["down"]);
}

#[test]
fn a_published_port_is_refused_when_its_container_is_gone() {
    if !is_root() {
        return;
    }
    let world = ground(
        "gone",
        &["port"],
        &format!(
            r#"
container "a" {{ image "box"; publish 23973 to=80; {SERVER}; }}
container "b" {{ image "box"; publish 23974 to=80; stop-grace "50ms"; cmd "sh" "-c" "port tcp 0.0.0.0 80 & sleep 2; exit 3"; }}
container "again" {{ image "box"; publish 23975 to=80; restart "always"; {SERVER}; }}
"#
        ),
    );
    let a = "127.0.0.1:23973";
    world.ok(&["up"]);
    answers(a, "a-1");
    answers("127.0.0.1:23975", "again-1");
    world.ok(&["stop", "a"]);
    refused(a, "stopped");
    // The host has the port again, and the port's traffic.
    let listener = TcpListener::bind(a).unwrap();
    let stranger = TcpStream::connect_timeout(&a.parse().unwrap(), Duration::from_secs(2)).unwrap();
    assert_eq!(listener.accept().unwrap().1, stranger.local_addr().unwrap());
    assert!(world.fails(&["start", "a"]).err.contains("another program has this port"), "and it is held while it is used");
    drop((listener, stranger));
    world.ok(&["start", "a"]);
    answers(a, "a-1");
    world.ok(&["pause", "a"]);
    refused(a, "paused");
    world.ok(&["unpause", "a"]);
    answers(a, "a-1");
    world.ok(&["kill", "a"]);
    eventually("the kill has ended it", || world.container("a-1")["state"] == "exited");
    std::thread::sleep(Duration::from_millis(100));
    refused(a, "killed");
    eventually("the program ends by itself", || world.container("b-1")["state"] == "exited");
    std::thread::sleep(Duration::from_millis(100));
    refused("127.0.0.1:23974", "ended by itself");
    // A container that its restart policy starts again answers again.
    let killed = Command::new("kill").args(["-9", &world.pid("again-1").to_string()]).status().unwrap();
    assert!(killed.success());
    answers("127.0.0.1:23975", "again-1");
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn a_port_leads_nowhere_when_a_monitor_is_killed() {
    if !is_root() {
        return;
    }
    let world = ground(
        "killed",
        &["port"],
        &format!(
            r#"
container "w" {{ image "box"; replicas 2; publish 23979 to=80; {SERVER}; }}
container "n" {{ image "box"; {SLEEP}; }}
"#
        ),
    );
    let w = "127.0.0.1:23979";
    // Only files are read here: any `stead` command could repair something.
    let file = |path: &str| {
        let instance = fs::read_dir(world.root.join("run")).unwrap().flatten().find(|entry| entry.path().is_dir()).unwrap();
        fs::read_to_string(instance.path().join(path)).unwrap()
    };
    let kill = |name: &str| {
        let status: serde_json::Value = serde_json::from_str(&file(&format!("{name}/status.json"))).unwrap();
        assert!(Command::new("kill").args(["-9", &status["content"]["monitor"].to_string()]).status().unwrap().success());
    };
    world.ok(&["up"]);
    kill("w-1");
    eventually("its name is gone", || !file("n-1/hosts").contains("w-1"));
    let asked: Vec<_> = (0..12).map(|_| ask(w).0).collect();
    assert!(asked.iter().all(|answer| answer.as_deref() == Ok("w-2")), "{asked:?}");
    kill("w-2");
    eventually("it is refused", || ask(w).0 == Err(std::io::ErrorKind::ConnectionRefused));
    world.ok(&["up"]);
    answers(w, "w-1");
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn replicas_that_are_stopped_or_paused_get_nothing_and_no_name() {
    if !is_root() {
        return;
    }
    let world = ground(
        "replicas",
        &["port"],
        &format!(
            r#"
container "w" {{ image "box"; replicas 2; publish 23976 to=80; {SERVER}; }}
container "n" {{ image "box"; {SLEEP}; }}
"#
        ),
    );
    let w = "127.0.0.1:23976";
    let named = || world.exec("n", "grep -o 'w-[12]' /etc/hosts | sort | tr '\\n' ' '");
    world.ok(&["up"]);
    let all: std::collections::BTreeSet<_> = (0..20).filter_map(|_| ask(w).0.ok()).collect();
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(named(), "w-1 w-2");
    world.ok(&["stop", "w-2"]);
    // If packets still went to the stopped replica, half of the connections would stand only after a retransmission, a
    // second later. (A server that is slow to accept can cause that once, too.)
    let asked: Vec<_> = (0..16).map(|_| ask(w)).collect();
    assert!(asked.iter().all(|(answer, _)| answer.as_deref() == Ok("w-1")), "{asked:?}");
    assert!(asked.iter().filter(|(_, took)| *took >= Duration::from_secs(1)).count() < 4, "{asked:?}");
    assert_eq!(named(), "w-1");
    world.ok(&["pause", "w-1"]);
    refused(w, "all are paused or stopped");
    assert_eq!(named(), "");
    world.ok(&["unpause", "w-1"]);
    assert_eq!(ask(w).0.as_deref(), Ok("w-1"));
    world.ok(&["up"]);
    let all: std::collections::BTreeSet<_> = (0..20).filter_map(|_| ask(w).0.ok()).collect();
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(named(), "w-1 w-2");
    // Another replica uses the same reservation.
    world.ok(&["scale", "w=3"]);
    let all: std::collections::BTreeSet<_> = (0..30).filter_map(|_| ask(w).0.ok()).collect();
    assert_eq!(all.len(), 3, "{all:?}");
    world.ok(&["down"]);
}

#[test]
fn a_gateway_is_where_its_neighbours_remember_it() {
    if !is_root() {
        return;
    }
    // By default, a bridge takes the lowest hardware address of its ports, and changes it as they come and go. Packets
    // that neighbours send to the address that they remember are then lost, even an answer that is on its way.
    let world = ground("gateway", &[], &format!(r#"container "c" {{ image "box"; replicas 5; {SLEEP}; }}"#));
    world.ok(&["up"]);
    let gateway = world.exec("c-5", "ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'").trim().to_owned();
    let links = Ran::from(Command::new("ip").args(["-o", "-4", "addr"]).output().unwrap()).out;
    let link = links.lines().find(|line| line.contains(&format!(" {gateway}/"))).unwrap();
    let bridge = link.split_whitespace().nth(1).unwrap();
    let address = || fs::read_to_string(format!("/sys/class/net/{bridge}/address")).unwrap();
    let (first, remembered) = (address(), || world.exec("c-5", &format!("ping -c 1 -W 1 {gateway}")));
    remembered();
    for container in ["c-1", "c-2", "c-3", "c-4"] {
        world.ok(&["stop", container]);
        assert_eq!(address(), first, "after {container}");
        remembered();
    }
    world.ok(&["stop", "c-5"]);
    assert_eq!(address(), first, "with nobody on it");
    world.ok(&["up"]);
    assert_eq!(address(), first);
    // A bridge that an earlier version made keeps the address that it has.
    let set = |address: &str| {
        assert!(Command::new("ip").args(["link", "set", bridge, "address", address]).status().unwrap().success());
    };
    set("02:00:00:00:00:09");
    world.ok(&["up"]);
    assert_eq!(address().trim(), "02:00:00:00:00:09");
    world.ok(&["down"]);
}

#[test]
fn a_bridge_of_others_does_not_change_for_our_containers() {
    if !is_root() {
        return;
    }
    let world = ground(
        "guests",
        &[],
        &format!(
            r#"
network "theirs" external="theirs" subnet="10.214.9.0/24"
container "c" {{ image "box"; replicas 4; network "theirs"; {SLEEP}; }}
"#
        ),
    );
    let host = Host::new();
    // The only port has a high address. Ours begin with fe, which is higher, and a bridge takes the lowest one.
    host.ok("ip link add theirs type bridge && ip link add port type veth peer name far");
    host.ok("ip link set port address fa:ff:ff:ff:ff:ff && ip link set port master theirs");
    host.ok("ip addr add 10.214.9.1/24 dev theirs && ip link set theirs up && ip link set port up && ip link set far up");
    let shown = || {
        let line = host.ok("ip -o link show theirs");
        line.split_once("link/ether ").unwrap().1.split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(shown(), "fa:ff:ff:ff:ff:ff");
    host.stead_ok(&world, &["up"]);
    assert_eq!(shown(), "fa:ff:ff:ff:ff:ff");
    host.stead_ok(&world, &["down"]);
    assert_eq!(shown(), "fa:ff:ff:ff:ff:ff");
}

/// An external bridge gives its own subnet, and two projects that go up on it at once get different addresses.
#[test]
fn a_bridge_of_others_gives_its_subnet_and_each_address_once() {
    if !is_root() {
        return;
    }
    let world = ground(
        "shared-bridge",
        &[],
        &format!("network \"theirs\" external=\"shared\"\ncontainer \"c\" {{ image \"box\"; network \"theirs\"; {SLEEP}; }}\n"),
    );
    let second = Checkout::of(&world, "checkout");
    let host = Host::new();
    let missing = host.stead(&world, &["plan"]);
    assert!(missing.err.contains("shared is not there on this host"), "{}", missing.err);
    host.ok("ip link add shared type bridge && ip link set shared up");
    let bare = host.stead(&world, &["plan"]);
    assert!(bare.err.contains("has no address, so its subnet is not known"), "{}", bare.err);
    host.ok("ip addr add 10.214.11.1/24 dev shared");
    let address = |folder: &Path| {
        let found = in_folder(&world, folder, &["ps", "--json"]).out;
        let rows: serde_json::Value = serde_json::from_str(&found).unwrap();
        rows["containers"][0]["addresses"]["theirs"].as_str().unwrap_or_else(|| panic!("{found}")).to_owned()
    };
    for round in 0..3 {
        std::thread::scope(|scope| {
            scope.spawn(|| host.stead_ok(&world, &["up"]));
            scope.spawn(|| host.stead_ok(&world, &["-C", second.folder.to_str().unwrap(), "up"]));
        });
        let both = [address(&world.folder), address(&second.folder)];
        assert!(both[0] != both[1] && both.iter().all(|address| address.starts_with("10.214.11.")), "round {round}: {both:?}");
        host.stead_ok(&world, &["-C", second.folder.to_str().unwrap(), "down"]);
        host.stead_ok(&world, &["down"]);
    }
}

#[test]
fn a_port_has_one_owner() {
    if !is_root() {
        return;
    }
    let publish = format!(r#"container "c" {{ image "box"; publish 23977 to=80; {SERVER}; }}"#);
    let world = ground("owner", &["port"], &publish);
    let twin = ground("owner-twin", &["port"], &publish);
    let share = || {
        let mut command = Command::new(tool("port"));
        let mut child = command.args(["share", "127.0.0.1", "23977"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = [0; 5];
        let bound = child.stdout.take().unwrap().read(&mut said).unwrap() == 5 && &said == b"bound";
        (Background(child), bound)
    };
    // A program on the host that would share the port with anybody.
    let (stranger, bound) = share();
    assert!(bound);
    let ran = world.fails(&["up"]);
    assert!(ran.err.contains("another program has this port (port, process"), "{}", ran.err);
    drop(stranger);
    world.ok(&["up"]);
    answers("127.0.0.1:23977", "c-1");
    assert!(!share().1, "and nobody shares with a container");
    // Another installation is refused, too.
    let ran = twin.fails(&["up"]);
    assert!(ran.err.contains("another program has this port (the container owner/c-1 of stead"), "{}", ran.err);
    answers("127.0.0.1:23977", "c-1");
    world.ok(&["down"]);
    twin.ok(&["up"]);
    twin.ok(&["down"]);
}

#[test]
fn two_at_once_never_share_a_port_or_a_subnet() {
    if !is_root() {
        return;
    }
    let world = ground("at-once", &["port"], &format!(r#"container "c" {{ image "box"; publish 23978 to=80; {SERVER}; }}"#));
    let (first, second) = (Checkout::of(&world, "checkout"), Checkout::of(&world, "other"));
    let (checkout, other) = (first.folder.clone(), second.folder.clone());
    let text = fs::read_to_string(other.join("stead.kdl")).unwrap();
    fs::write(other.join("stead.kdl"), text.replace("project \"at-once\"", "project \"another\"")).unwrap();
    world.ok(&["build"]);
    for round in 0..4 {
        let up = |folder: &Path| {
            world.command(&["up"]).current_dir(folder).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
        };
        let both = [up(&world.folder), up(&checkout)];
        for child in both {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let addresses = [address_of(&world, &world.folder, 23978), address_of(&world, &checkout, 23978)];
        assert_ne!(addresses[0], addresses[1], "round {round}: two checkouts with one address");
        addresses.iter().for_each(|address| answers(address, "c-1"));
        for folder in [&world.folder, &checkout] {
            assert_eq!(in_folder(&world, folder, &["down"]).code, 0);
        }
        // Of two different projects one is refused, and its error names the other.
        let both = [up(&world.folder), up(&other)];
        let outputs: Vec<_> = both.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        let won = outputs.iter().filter(|output| output.status.success()).count();
        assert_eq!(won, 1, "round {round}");
        let lost = outputs.iter().find(|output| !output.status.success()).unwrap();
        let said = String::from_utf8_lossy(&lost.stderr).into_owned();
        assert!(said.contains("port 23978 of 127.0.0.1 is taken by the project"), "{said}");
        for folder in [&world.folder, &other] {
            in_folder(&world, folder, &["down"]);
        }
    }
    world.assert_nothing_left();
}

#[test]
fn the_end_of_one_checkout_does_not_move_the_other() {
    if !is_root() {
        return;
    }
    let world = ground("stays", &["port"], &format!(r#"container "c" {{ image "box"; publish 23979 to=80; {SERVER}; }}"#));
    let second = Checkout::of(&world, "checkout");
    let checkout = second.folder.clone();
    world.ok(&["up"]);
    assert_eq!(in_folder(&world, &checkout, &["up"]).code, 0);
    let address = address_of(&world, &checkout, 23979);
    assert!(!address.starts_with("127.0.0.1:"), "{address}");
    world.ok(&["down"]);
    let plan = in_folder(&world, &checkout, &["plan"]);
    assert!(!plan.out.contains("publish changed") && !plan.out.contains("replace"), "{}", plan.out);
    assert_eq!(in_folder(&world, &checkout, &["up"]).code, 0);
    assert_eq!(address_of(&world, &checkout, 23979), address);
    answers(&address, "c-1");
    world.ok(&["up"]);
    answers("127.0.0.1:23979", "c-1");
    world.ok(&["down"]);
    assert_eq!(in_folder(&world, &checkout, &["down"]).code, 0);
    world.assert_nothing_left();
}

#[test]
fn datagrams_go_where_their_port_leads_now() {
    if !is_root() {
        return;
    }
    let server = r#"stop-grace "50ms"; cmd "port" "udp" "53""#;
    let text = format!(
        r#"
container "a" {{ image "box"; publish 23980 to=53 protocol="udp"; {server}; }}
container "b" {{ image "box"; {server}; }}
container "r" {{ image "box"; replicas 2; publish 23981 to=53 protocol="udp"; {server}; }}
"#
    );
    let world = ground("datagrams", &["port"], &text);
    world.ok(&["build"]);
    let client = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        socket
    };
    // When a datagram is refused, the next call fails.
    let ask = |socket: &UdpSocket, to: &str| {
        let mut buffer = [0; 64];
        let _ = socket.send_to(b"x", to);
        let (length, _) = socket.recv_from(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    let (a, r) = ("127.0.0.1:23980", "127.0.0.1:23981");
    let early = client();
    for _ in 0..3 {
        assert_eq!(ask(&early, a), None);
    }
    world.ok(&["up"]);
    eventually("a client that was there before is answered", || ask(&early, a).as_deref() == Some("a-1"));
    // The port moves to another container, and the old client follows.
    world.edit(r#"container "a" { image "box"; publish 23980 to=53 protocol="udp";"#, r#"container "a" { image "box";"#);
    world.edit(r#"container "b" { image "box";"#, r#"container "b" { image "box"; publish 23980 to=53 protocol="udp";"#);
    world.ok(&["up"]);
    eventually("the moved port is b's", || ask(&early, a).as_deref() == Some("b-1"));
    assert_eq!(ask(&early, a).as_deref(), Some("b-1"));
    // A replica ends: its clients reach the other replica, and the other clients stay with theirs.
    let clients: Vec<UdpSocket> = (0..6).map(|_| client()).collect();
    let before: Vec<Option<String>> = clients.iter().map(|client| ask(client, r)).collect();
    assert!(before.contains(&Some("r-1".into())) && before.contains(&Some("r-2".into())), "{before:?}");
    world.ok(&["stop", "r-2"]);
    for client in &clients {
        eventually("the other replica answers", || ask(client, r).as_deref() == Some("r-1"));
    }
    // The port is withdrawn: nobody answers.
    world.ok(&["stop", "b"]);
    assert_eq!(ask(&early, a), None);
    assert_eq!(ask(&early, a), None);
    world.ok(&["down"]);
}

#[test]
fn a_build_has_a_network_of_its_own() {
    if !is_root() {
        return;
    }
    let secret = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = secret.local_addr().unwrap().port();
    // An abstract socket of the host.
    let name = format!("stead-test-{}", std::process::id());
    let abstract_name =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&name).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind_addr(&abstract_name).unwrap();
    let probe = format!(
        "nc -w 1 127.0.0.1 {port} -e true && echo REACHED\n\
         grep -c {name} /proc/net/unix\n\
         cat /proc/net/dev\n\
         frame ra 1\n\
         gateway=$(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p')\n\
         nc -w 2 $gateway 23982 -e true && echo OUT\n\
         true\n"
    );
    let _out = TcpListener::bind("0.0.0.0:23982").unwrap();
    let world = ground(
        "build-net",
        &["frame"],
        &format!(
            r#"
image "own" {{ from "box"; run "sh /probe > /told 2>&1" network=#true; }}
container "own" {{ image "own"; {SLEEP}; }}
"#
        ),
    );
    world.write("box/probe", &probe);
    world.ok(&["build", "own"]);
    let tag = world.tag();
    let links = || {
        let names = fs::read_dir("/sys/class/net").unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(&format!("br-st{tag}"))).count()
    };
    assert_eq!(links(), 0, "nothing is left of the build's network");
    world.ok(&["up"]);
    let told = world.exec("own", "cat /told");
    assert!(!told.contains("REACHED"), "the host's loopback: {told}");
    assert!(told.lines().any(|line| line == "0"), "the host's abstract sockets: {told}");
    assert!(told.contains("eth0:") && !told.contains("br-st"), "the host's interfaces: {told}");
    assert!(told.contains("no packet socket"), "raw packets: {told}");
    assert!(told.contains("OUT"), "and out it comes: {told}");
    world.ok(&["down"]);
    // The host's network is used where the project asks for it, and the plan marks it.
    world.edit("network=#true", r#"network="host""#);
    let plan = world.ok(&["plan"]);
    assert!(plan.contains("is on the host's network while it is built"), "{plan}");
    world.ok(&["up"]);
    assert!(world.exec("own", "cat /told").contains("REACHED"));
    world.ok(&["down"]);
    world.assert_nothing_left();
}

#[test]
fn what_a_killed_build_leaves_is_swept() {
    if !is_root() {
        return;
    }
    let world = ground("build-kill", &[], r#"image "slow" { from "box"; run "sleep 1000" network=#true; }"#);
    let tag = world.tag();
    let bridges = || {
        let names = fs::read_dir("/sys/class/net").unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(&format!("br-st{tag}"))).count()
    };
    // The build is killed in any case, because it holds the instance's lock.
    let mut build = Background(world.spawn(&["build", "slow"]));
    eventually("the build has its network", || bridges() == 1);
    let ours = format!("*/stead-build/{}-*", build.0.id());
    let cgroups = || {
        let found = Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-path", &ours]).output().unwrap();
        String::from_utf8(found.stdout).unwrap()
    };
    eventually("the step has its cgroup", || !cgroups().is_empty());
    build.0.kill().unwrap();
    build.0.wait().unwrap();
    assert_eq!(bridges(), 1);
    world.ok(&["gc"]);
    assert_eq!((bridges(), cgroups()), (0, String::new()));
    let tables = String::from_utf8(Command::new("nft").args(["list", "tables"]).output().unwrap().stdout).unwrap();
    assert!(!tables.contains(&format!("stead-{tag}")), "{tables}");
}
