//! Networks: names, isolation, published ports, and ports that other programs already have.

use crate::world::{World, eventually, get, is_root, stead};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;

/// The last nodes of a container that serves pages.
const SERVER: &str = r#"cmd "python3" "-m" "http.server" "-d" "/srv" "80"; init #true; healthcheck { tcp 80 }"#;

fn fetch(world: &World, from: &str, url: &str) -> bool {
    world.run(&["exec", "-T", from, "timeout", "2", "busybox", "wget", "-q", "-O", "-", url]).code == 0
}

#[test]
fn names_isolation_and_ways_out() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "net",
        &format!(
            r#"
network "one"
network "two"
network "inner" internal=#true
container "a" {{ image "base"; network "one"; publish 18090 to=80; {SERVER}; }}
container "b" {{ image "base"; network "one"; {SERVER}; }}
container "c" {{ image "base"; network "two"; {SERVER}; }}
container "d" {{ image "base"; network "inner"; {SERVER}; }}
container "e" {{ image "base"; network "inner" "two"; network "one" alias="other"; {SERVER}; }}
"#
        ),
    );
    world.ok(&["up"]);
    assert!(get("127.0.0.1:18090", "/").is_ok(), "published on loopback");
    assert!(fetch(&world, "b", "http://a/") && fetch(&world, "b", "http://a-1/"), "neighbours by name");
    assert!(fetch(&world, "b", "http://other/"), "by alias");
    let address = |name: &str, network: &str| world.container(name)["addresses"][network].as_str().unwrap().to_owned();
    assert!(!fetch(&world, "c", &format!("http://{}/", address("a-1", "one"))), "networks are apart");
    assert!(!fetch(&world, "d", &format!("http://{}/", address("c-1", "two"))), "internal ones, too");
    assert!(fetch(&world, "d", "http://e/"), "and connected where somebody is on both");
    // Outgoing connections go to an address of this host that is not the gateway's.
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let own = own_address();
    let connect = |from: &str, to: &str| {
        world.run(&["exec", "-T", from, "timeout", "2", "busybox", "nc", "-w", "1", to, &port.to_string(), "-e", "true"]).code
            == 0
    };
    assert!(connect("a", &own), "outgoing");
    assert!(!connect("d", &own), "an internal network has no way out");
    assert!(!connect("a", "127.0.0.1"), "the host's loopback is out of reach");
    drop(listener);
    world.ok(&["down"]);
    world.assert_nothing_left();
}

/// The address that the host uses to reach others.
fn own_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip().to_string()
}

#[test]
fn udp_ranges_and_replicas_behind_one_port() {
    if !is_root() {
        return;
    }
    let echo = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 99));\\nwhile True: d, a = s.recvfrom(99); s.sendto(socket.gethostname().encode(), a)";
    let world = World::new(
        "udp",
        &format!(
            r#"
container "echo" {{ image "base"; init #true; publish 18099 to=99 protocol="udp"; cmd "python3" "-c" "{echo}"; }}
container "web" {{ image "base"; replicas 2; publish "18100-18101" to="80-81"; init #true; cmd "sh" "-c" "cd /etc && python3 -m http.server 81 & cd /etc && exec python3 -m http.server 80"; healthcheck {{ tcp 80 }}; }}
"#
        ),
    );
    world.ok(&["up"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    let mut buffer = [0; 99];
    eventually("the datagram is answered", || {
        socket.send_to(b"x", "127.0.0.1:18099").unwrap();
        socket.recv_from(&mut buffer).is_ok_and(|(length, _)| &buffer[..length] == b"echo-1")
    });
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..6 {
        names.insert(get("127.0.0.1:18100", "/hostname").unwrap());
    }
    assert_eq!(names.len(), 2, "{names:?}");
    eventually("the second port of the range answers", || get("127.0.0.1:18101", "/hostname").is_ok());
}

#[test]
fn a_port_in_use_is_found_before_anything_starts() {
    if !is_root() {
        return;
    }
    let world = World::new("taken", r#"container "c" { image "base"; publish 18110; stop-grace "100ms"; cmd "sleep" "1000"; }"#);
    let listener = TcpListener::bind("127.0.0.1:18110").unwrap();
    let ran = world.fails(&["up"]);
    assert!(
        ran.err.contains("cannot publish 127.0.0.1:18110") && ran.err.contains("another program has this port"),
        "{}",
        ran.err
    );
    assert!(world.ps().is_empty(), "nothing was started");
    drop(listener);
    world.ok(&["up"]);
    assert!(TcpListener::bind("127.0.0.1:18110").is_err(), "the port is held while the container is up");
    world.ok(&["down"]);
    assert!(TcpListener::bind("127.0.0.1:18110").is_ok());
}

#[test]
fn two_checkouts_run_side_by_side() {
    if !is_root() {
        return;
    }
    let world = World::new("twins", &format!(r#"container "c" {{ image "base"; publish 18120 to=80; {SERVER}; }}"#));
    let twin = world.folder.with_file_name("twin");
    crate::world::copy_folder(&world.folder, &twin);
    world.ok(&["up"]);
    let other = |args: &[&str]| world.command(args).current_dir(&twin).output().unwrap();
    let up = other(&["up"]);
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let listed: serde_json::Value = serde_json::from_slice(&other(&["ps", "--json"]).stdout).unwrap();
    let address = listed["containers"][0]["ports"][0]["address"].as_str().unwrap().to_owned();
    assert!(address.starts_with("127.") && address != "127.0.0.1", "{address}");
    assert!(get("127.0.0.1:18120", "/").is_ok() && get(&format!("{address}:18120"), "/").is_ok());
    let both: serde_json::Value = serde_json::from_str(&world.ok(&["ps", "--projects", "--json"])).unwrap();
    assert_eq!(both["containers"].as_array().unwrap().len(), 2);
    world.ok(&["down"]);
    assert!(get(&format!("{address}:18120"), "/").is_ok(), "one's end is not the other's");
    assert!(other(&["down"]).status.success());
    world.assert_nothing_left();
}

#[test]
fn a_flushed_ruleset_is_mended_and_a_foreign_drop_is_named() {
    if !is_root() {
        return;
    }
    let world = World::new("flushed", &format!(r#"container "c" {{ image "base"; publish 18130 to=80; {SERVER}; }}"#));
    world.ok(&["up"]);
    let nft = |rules: &str| assert!(Command::new("nft").arg(rules).status().unwrap().success());
    nft(&format!("delete table ip stead-{}", world.tag()));
    assert!(get("127.0.0.1:18130", "/").is_err());
    assert!(world.ok(&["status"]).contains("packet filter changed"));
    world.ok(&["up"]);
    assert!(get("127.0.0.1:18130", "/").is_ok());
    // dockerd leaves a forward policy of drop.
    nft(
        "add table ip stead_test_foreign; add chain ip stead_test_foreign FORWARD { type filter hook forward priority 0; policy drop; }",
    );
    let up = world.run(&["up"]);
    nft("delete table ip stead_test_foreign");
    assert!(up.err.contains("table ip stead_test_foreign, chain FORWARD: policy drop"), "{}", up.err);
    assert_eq!(up.code, 0, "published ports of loopback work all the same");
    // firewalld leaves a policy of accept, and a last rule that rejects what no zone accepted.
    nft("add table inet stead_test_foreign");
    nft("add chain inet stead_test_foreign zones");
    nft("add rule inet stead_test_foreign zones iifname \"eth7\" accept");
    nft("add chain inet stead_test_foreign filter_FWD { type filter hook forward priority 10; }");
    nft("add rule inet stead_test_foreign filter_FWD ct state established,related accept");
    nft("add rule inet stead_test_foreign filter_FWD ct status dnat accept");
    nft("add rule inet stead_test_foreign filter_FWD jump zones");
    nft("add rule inet stead_test_foreign filter_FWD reject with icmpx admin-prohibited");
    let rejects = world.run(&["up"]).err;
    nft("add rule inet stead_test_foreign zones iifname \"br-st*\" accept");
    let allowed = world.run(&["up"]).err;
    nft("delete table inet stead_test_foreign");
    assert!(rejects.contains("table inet stead_test_foreign, chain filter_FWD: a rule to reject"), "{rejects}");
    assert!(!allowed.contains("stead_test_foreign"), "{allowed}");
}

#[test]
fn a_subnet_that_the_host_routes_is_refused() {
    if !is_root() {
        return;
    }
    let routes = std::fs::read_to_string("/proc/net/route").unwrap();
    let Some(route) = routes
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|row| row[1] != "00000000" && row[7] == "00FFFFFF")
    else {
        crate::world::tell_skipped("this host routes no /24");
        return;
    };
    let number = u32::from_str_radix(route[1], 16).unwrap().swap_bytes();
    let subnet = format!("{}/24", std::net::Ipv4Addr::from(number));
    let world = World::new(
        "overlap",
        &format!("network \"n\" subnet=\"{subnet}\"\ncontainer \"c\" {{ image \"base\"; network \"n\"; cmd \"sleep\" \"9\"; }}"),
    );
    let ran = world.fails(&["up"]);
    assert!(ran.err.contains("stead.kdl:4") && ran.err.contains("already routes") && ran.err.contains(route[0]), "{}", ran.err);
}

/// A dockerd on a socket of its own; what it leaves in the kernel is removed with it.
struct Dockerd {
    process: std::process::Child,
    folder: std::path::PathBuf,
    tables: String,
}

fn tables() -> String {
    String::from_utf8(Command::new("nft").args(["list", "tables"]).output().unwrap().stdout).unwrap()
}

impl Dockerd {
    fn start(folder: std::path::PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&folder).unwrap();
        let tables = tables();
        let socket = format!("unix://{}", folder.join("socket").display());
        let process = Command::new("dockerd")
            .args(["-H", &socket, "--data-root"])
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .ok()?;
        let it = Self { process, folder, tables };
        eventually("dockerd answers", || {
            Command::new("docker").args(["-H", &socket, "version"]).output().unwrap().status.success()
        });
        Some(it)
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
        let _ = Command::new("iptables").args(["-P", "FORWARD", "ACCEPT"]).output();
        let _ = Command::new("ip").args(["link", "delete", "docker0"]).output();
        for table in tables().lines().filter(|table| !self.tables.contains(table) && !table.contains("stead-")) {
            let _ = Command::new("nft").arg("delete").args(table.split_whitespace()).output();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn beside_dockerd_the_rule_that_blocks_is_named() {
    if !is_root() {
        return;
    }
    let world = World::new("dockerd", &format!(r#"container "c" {{ image "base"; publish 18150 to=80; {SERVER}; }}"#));
    let Some(_dockerd) = Dockerd::start(world.folder.with_file_name("docker")) else {
        crate::world::skip("dockerd is not installed");
        return;
    };
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // dockerd sets this policy when it is the one that switches forwarding on.
    assert!(Command::new("iptables").args(["-P", "FORWARD", "DROP"]).status().unwrap().success());
    let up = world.run(&["up"]);
    assert_eq!(up.code, 0, "{}", up.err);
    assert!(get("127.0.0.1:18150", "/").is_ok(), "published on loopback");
    assert!(
        up.err.contains("table ip filter, chain FORWARD: policy drop") && up.err.contains("iptables -I DOCKER-USER"),
        "{}",
        up.err
    );
    // An address that is reached only by forwarding: a neighbour in a network namespace of its own.
    let sh = |line: &str| Command::new("sh").args(["-c", line]).status().unwrap().success();
    assert!(sh(
        "ip netns add stead-test-far && ip link add stest0 type veth peer name stest1 netns stead-test-far && ip addr add 198.51.100.1/24 dev stest0 && ip link set stest0 up && ip -n stead-test-far addr add 198.51.100.2/24 dev stest1 && ip -n stead-test-far link set stest1 up"
    ));
    let mut far = Command::new("ip")
        .args(["netns", "exec", "stead-test-far", "python3", "-m", "http.server", "-d", "/var/empty", &port.to_string()])
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let reach = || {
        world
            .run(&[
                "exec",
                "-T",
                "c",
                "timeout",
                "2",
                "busybox",
                "nc",
                "-w",
                "1",
                "198.51.100.2",
                &port.to_string(),
                "-e",
                "true",
            ])
            .code
            == 0
    };
    let blocked = !reach();
    assert!(sh("iptables -I DOCKER-USER -i br-st+ -j ACCEPT; iptables -I DOCKER-USER -o br-st+ -j ACCEPT"));
    let start = std::time::Instant::now();
    let mut open = false;
    while !open && start.elapsed().as_secs() < 8 {
        open = reach();
    }
    let _ = far.kill();
    let _ = far.wait();
    assert!(sh("ip link delete stest0; ip netns delete stead-test-far"));
    assert!(blocked, "docker's policy drops what is forwarded");
    assert!(open, "the advice helps");
    assert!(!world.run(&["up"]).err.contains("chain FORWARD"), "and then nothing is left to say");
}

/// Where bridged packets pass the packet filter (br_netfilter, which dockerd loads), a container reaches itself as others do.
#[test]
fn a_container_reaches_its_own_published_port() {
    if !is_root() {
        return;
    }
    if fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables").map(|text| text.trim() == "1").unwrap_or(false) {
        let serve = "cd /etc && exec python3 -m http.server 80";
        let world = World::new(
            "hairpin",
            &format!(
                r#"container "web" {{ image "base"; replicas 2; init #true; publish 18190 to=80 address="0.0.0.0"; cmd "sh" "-c" "{serve}"; healthcheck {{ tcp 80 }} }}"#
            ),
        );
        world.ok(&["up"]);
        let ask = "import urllib.request, sys, subprocess; gateway = subprocess.check_output(['sh', '-c', \"awk '$2==\\\"00000000\\\" {print $3}' /proc/net/route\"]).decode().strip(); gateway = '.'.join(str(int(gateway[i:i + 2], 16)) for i in (6, 4, 2, 0)); print({urllib.request.urlopen('http://' + gateway + ':18190/hostname', timeout=3).read() for _ in range(8)}.__len__())";
        world.write("ask.py", ask);
        world.ok(&["cp", "ask.py", "web-1:/ask.py"]);
        assert_eq!(world.ok(&["exec", "-T", "web-1", "python3", "/ask.py"]), "2\n", "it reaches both replicas, itself included");
        world.ok(&["down"]);
    } else {
        crate::world::tell_skipped("br_netfilter is not in use: bridged packets do not pass the packet filter");
    }
}

/// A login shell allows a thousand descriptors; each published port takes one.
#[test]
fn thousands_of_ports_are_published_from_a_login_shell() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "many-ports",
        r#"container "c" { image "base"; publish "30000-31499"; publish "30000-31499" protocol="udp"; stop-grace "100ms"; cmd "sleep" "1000"; }"#,
    );
    let limited = |args: &str| {
        let stead = crate::world::stead();
        let line = format!("ulimit -Sn 1024 && exec {} {args}", stead.display());
        let mut command = Command::new("sh");
        command.args(["-c", &line]).current_dir(&world.folder).env("STEAD_ROOT", &world.root).env("STEAD_ALLOW", "all");
        command.output().unwrap()
    };
    let up = limited("up");
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let mut running: Vec<_> = (0..20).map(|_| world.spawn(&["exec", "-T", "c", "sleep", "1"])).collect();
    assert_eq!(world.exec("c", "ulimit -Sn"), "1024", "the container has the limit that every container has");
    assert!(running.iter_mut().all(|exec| exec.wait().unwrap().success()));
    assert!(limited("down").status.success());
    world.assert_nothing_left();
}

#[test]
fn containers_without_a_name_server_are_told_and_can_have_their_own() {
    if !is_root() {
        return;
    }
    let world = World::new(
        "nameless",
        "container \"c\" { image \"base\"; stop-grace \"100ms\"; cmd \"sleep\" \"1000\"; }\nnetwork \"in\" internal=#true\ncontainer \"inside\" { image \"base\"; network \"in\"; cmd \"true\"; }\n",
    );
    let script = "mount --bind \"$0\" /etc/resolv.conf; r=/run/systemd/resolve/resolv.conf; test ! -e $r || mount --bind /dev/null $r; exec \"$@\"";
    let where_servers_are = |servers: &str, args: &[&str]| {
        world.write("servers", servers);
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script]).arg(world.folder.join("servers")).arg(stead()).args(args);
        command.current_dir(&world.folder).env("STEAD_ROOT", &world.root).env("NO_COLOR", "1");
        let out = command.output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout))
    };
    for (servers, why) in [
        ("nameserver 127.0.0.1\nnameserver ::1\n", "127.0.0.1 is on the host's loopback"),
        ("nameserver 2001:db8::1\n", "2001:db8::1 is IPv6"),
        ("search lan\n", "names none"),
    ] {
        for command in ["check", "plan"] {
            let (code, said) = where_servers_are(servers, &[command]);
            assert!(code == Some(0) && said.contains("container c reaches no name server") && said.contains(why), "{said}");
            assert!(said.contains("dns \"ADDRESS\"") && !said.contains("inside reaches"), "{said}");
        }
        let (code, said) = where_servers_are(servers, &["doctor"]);
        assert!(code == Some(1) && said.contains(why), "{said}");
    }
    let (code, said) = where_servers_are("nameserver 127.0.0.53\nnameserver 192.0.2.53\n", &["check"]);
    assert!(code == Some(0) && !said.contains("name server"), "{said}");
    world.edit("image \"base\"; stop-grace", "image \"base\"; dns \"192.0.2.7\" \"192.0.2.8\"; stop-grace");
    let (code, said) = where_servers_are("nameserver 127.0.0.1\n", &["check"]);
    assert!(code == Some(0) && !said.contains("name server"), "{said}");
    world.ok(&["up"]);
    assert_eq!(world.exec("c", "grep ^nameserver /etc/resolv.conf"), "nameserver 192.0.2.7\nnameserver 192.0.2.8");
    world.edit(" \"192.0.2.8\"", "");
    assert!(world.ok(&["plan"]).contains("dns"));
    world.ok(&["up"]);
    assert_eq!(world.exec("c", "grep ^nameserver /etc/resolv.conf"), "nameserver 192.0.2.7");
    world.edit("\"192.0.2.7\"", "\"192.0.2.1\" \"192.0.2.2\" \"192.0.2.3\" \"192.0.2.4\"");
    assert!(world.fails(&["check"]).err.contains("at most 3 name servers"));
    world.ok(&["down"]);
}
