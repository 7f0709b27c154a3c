//! Real services from Debian's packages, configured by their own scripts in our sandbox: they start and serve.

use crate::world::{World, eventually, get, is_root};
use std::fs;

const PROJECT: &str = r#"
image "nginx" { debian "bookworm" { configure #true; package "nginx" }; cmd "nginx" "-g" "daemon off;" }
image "redis" { debian "bookworm" { configure #true; package "redis-server" }; cmd "redis-server" "--bind" "0.0.0.0" "--protected-mode" "no" }
image "python" { debian "bookworm" { package "python3" }; workdir "/usr/share/doc"; cmd "python3" "-m" "http.server" "8000" }
image "node" {
    debian "bookworm" { package "nodejs" }
    cmd "node" "-e" "require('http').createServer((q, a) => a.end('hello from node')).listen(8000)"
}
image "java" { debian "bookworm" { configure #true; package "default-jre-headless" }; copy "S.class" to="/app/"; cmd "java" "-cp" "/app" "S" }
image "php" { debian "bookworm" { configure #true; package "php-fpm" "libfcgi-bin" }; cmd "php-fpm8.2" "-F" }
image "postgres" {
    debian "bookworm" { configure #true; package "postgresql" }
    user "postgres"
    cmd "/usr/lib/postgresql/15/bin/postgres" "-D" "/var/lib/postgresql/15/main" "-c" "config_file=/etc/postgresql/15/main/postgresql.conf"
}
image "mariadb" {
    debian "bookworm" { configure #true; package "mariadb-server" }
    cmd "sh" "-c" "install -d -o mysql /run/mysqld && exec mariadbd --user=mysql"
}
container "nginx" { image "nginx"; publish 18301 to=80; healthcheck { http 80 } }
container "redis" { image "redis"; healthcheck { exec "redis-cli" "ping" } }
container "python" { image "python"; publish 18303 to=8000; healthcheck { tcp 8000 } }
container "node" { image "node"; publish 18304 to=8000; healthcheck { tcp 8000 } }
container "java" { image "java"; publish 18305 to=8000; healthcheck timeout="20s" { tcp 8000 } }
container "php" { image "php"; }
container "postgres" { image "postgres"; healthcheck { exec "pg_isready" } }
container "mariadb" { image "mariadb"; healthcheck { exec "mariadb-admin" "ping" } }
"#;

#[test]
fn services_start_and_serve() {
    if !is_root() {
        return;
    }
    if std::env::var_os("CI").is_none() {
        crate::world::tell_skipped("it fetches 300 MB and takes two minutes; CI=true runs it");
        return;
    }
    let world = World::bare("services", &format!("project \"services\"\n{PROJECT}"));
    fs::write(world.folder.join("S.class"), include_bytes!("../services/S.class")).unwrap();
    world.ok(&["up"]);
    assert!(get("127.0.0.1:18301", "/").unwrap().contains("Welcome to nginx"));
    assert!(get("127.0.0.1:18303", "/").unwrap().contains("Directory listing"));
    assert_eq!(get("127.0.0.1:18304", "/").unwrap(), "hello from node");
    assert_eq!(get("127.0.0.1:18305", "/").unwrap(), "hello from java");
    assert_eq!(world.exec("redis", "redis-cli set a b && redis-cli get a"), "OK\nb");
    let asked = "echo '<?php echo 6 * 7;' > /tmp/x.php; chmod 644 /tmp/x.php; \
                 REQUEST_METHOD=GET SCRIPT_FILENAME=/tmp/x.php cgi-fcgi -bind -connect /run/php/php8.2-fpm.sock";
    eventually("php answers", || world.run(&["exec", "-T", "php", "sh", "-c", asked]).out.contains("42"));
    assert_eq!(world.exec("postgres", "psql -tAc 'create table t as select 7 as n; select n * 6 from t'"), "SELECT 1\n42");
    assert_eq!(
        world.exec("mariadb", "mariadb -Ne 'create database d; create table d.t select 42 as n; select n from d.t'"),
        "42"
    );
    // The scripts made users, and dpkg's records are right.
    assert_eq!(
        world.exec("nginx", "dpkg --audit; dpkg -V 2>&1 | grep -v conf; dpkg -s nginx | grep ^Status"),
        "Status: install ok installed"
    );
    assert_eq!(
        world.exec("redis", "stat -c %U /var/lib/redis; cat /var/log/dpkg.log /etc/machine-id 2>/dev/null; true"),
        "redis"
    );
    world.ok(&["down"]);
    world.assert_nothing_left();
}
