//! Certificates and keys, made with openssl.

use super::run;
use std::fs;
use std::path::{Path, PathBuf};

/// A server's certificate for 127.0.0.1 and localhost, its key, and the certificate of the authority that signed it.
#[derive(Clone, Debug)]
pub struct Certificates {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

pub const OPENSSL: &str = "
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, IP:127.0.0.1
[any]
commonName = supplied
[issue]
database = issued
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
x509_extensions = server
";

impl Certificates {
    /// Makes them in this directory. The server's certificate is valid for `days` days from now; `-1` makes one that
    /// expired yesterday.
    pub fn make(folder: &Path, days: i32) -> Self {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("openssl.cnf"), OPENSSL).unwrap();
        fs::write(folder.join("issued"), "").unwrap();
        let run = |line: &str| run("openssl", &line.split(' ').collect::<Vec<_>>(), folder, b"");
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config openssl.cnf";
        run(&format!(
            "req -x509 {key} -extensions authority -subj /CN=authority -days 3650 -keyout authority.key -out authority.pem"
        ));
        run(&format!("req -new {key} -subj /CN=localhost -keyout server.key -out server.csr"));
        // In OpenSSL 3.0 only `ca` can sign with dates in the past.
        let (from, to) = (date(days.min(0) - 1), date(days));
        run(&format!(
            "ca -batch -notext -rand_serial -config openssl.cnf -name issue -cert authority.pem -keyfile authority.key \
             -startdate {from} -enddate {to} -in server.csr -out server.pem"
        ));
        let at = |name: &str| folder.join(name);
        Self { authority: at("authority.pem"), certificate: at("server.pem"), key: at("server.key") }
    }
}

/// The time `days` days from now, in OpenSSL's format.
fn date(days: i32) -> String {
    let text = run("date", &["-u", "-d", &format!("{days:+} days"), "+%Y%m%d%H%M%SZ"], Path::new("/"), b"");
    String::from_utf8(text).unwrap().trim().to_owned()
}
