//! Public keys in PEM files: reading them, and verifying signatures with them.

use super::decode;
use crate::model::{Context, Digest, Error, Result};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};

/// The label of a public key's PEM block (RFC 7468, section 13).
const LABEL: &str = "PUBLIC KEY";

// The algorithms of keys, as object identifiers (RFC 5480, RFC 8410, RFC 8017).
const ELLIPTIC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED_25519: &[u8] = &[0x2b, 0x65, 0x70];
const ED_448: &[u8] = &[0x2b, 0x65, 0x71];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];

// The parameters of these algorithms, each as a complete DER element: names of curves, and NULL for RSA.
const P_256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P_384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const P_521: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];
const NULL: &[u8] = &[0x05, 0x00];

/// A public key that images are signed with.
#[derive(Clone, Debug)]
pub struct PublicKey {
    kind: Kind,
    /// The key in the form that `ring` takes: a point, 32 bytes, or an RSA key in PKCS#1 form.
    bytes: Vec<u8>,
    fingerprint: Digest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    Ed25519,
    Rsa,
}

impl PublicKey {
    /// Reads a PEM file's text: a key for ECDSA on P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits.
    ///
    /// It is not checked that a point lies on its curve: with one that does not, no signature verifies.
    ///
    /// # Errors
    /// Fails when the text is not a public key (but a private key or a certificate, for example), is another kind of key,
    /// or holds several keys.
    pub fn parse(pem: &str) -> Result<Self> {
        Self::read(&block(pem)?)
    }

    fn read(bytes: &[u8]) -> Result<Self> {
        let information = Information::read(bytes).ok_or_else(damaged)?;
        let kind = information.kind()?;
        Ok(Self { kind, bytes: information.key.to_vec(), fingerprint: Digest::of(bytes) })
    }

    /// The digest of its SPKI bytes (RFC 5280, section 4.1.2.7), for the lock.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// Whether a signature over a payload is this key's.
    pub fn verifies(&self, payload: &[u8], signature: &[u8]) -> bool {
        let holds = |algorithm: &'static dyn VerificationAlgorithm| {
            UnparsedPublicKey::new(algorithm, &self.bytes).verify(payload, signature).is_ok()
        };
        match self.kind {
            Kind::P256 => holds(&ECDSA_P256_SHA256_ASN1),
            // Cosign signed with SHA-256 on every curve; since 2.6 it uses SHA-384 on this one.
            Kind::P384 => holds(&ECDSA_P384_SHA256_ASN1) || holds(&ECDSA_P384_SHA384_ASN1),
            Kind::Ed25519 => holds(&ED25519),
            Kind::Rsa => holds(&RSA_PKCS1_2048_8192_SHA256),
        }
    }
}

/// The bytes of a PEM file's only block, which must be a public key.
fn block(pem: &str) -> Result<Vec<u8>> {
    // A private key is recognised even in a damaged file, and none of its bytes appear in the error.
    if pem.contains("ENCRYPTED COSIGN PRIVATE KEY") || pem.contains("ENCRYPTED SIGSTORE PRIVATE KEY") {
        return Err(Error::new("it is a private key of cosign, not a public one")
            .hint("name cosign.pub, which was made with it; `cosign public-key --key FILE` writes it again"));
    }
    if pem.contains("PRIVATE KEY-----") {
        return Err(Error::new("it is a private key, not a public one")
            .hint("`openssl pkey -in FILE -pubout` writes its public key; keep the private one to yourself"));
    }
    let mut lines = pem.lines().map(str::trim);
    let begun = |line: &str| line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")).map(str::to_owned);
    let label = lines.find_map(begun).ok_or_else(|| {
        Error::new("it is no PEM file").hint("a public key's file begins with the line -----BEGIN PUBLIC KEY-----")
    })?;
    if label != LABEL {
        return Err(other_label(&label));
    }
    let mut body = String::new();
    loop {
        match lines.next() {
            Some("-----END PUBLIC KEY-----") => break,
            Some(line) => body.push_str(line),
            None => return Err(Error::new("it ends before its line -----END PUBLIC KEY-----")),
        }
    }
    if lines.any(|line| begun(line).is_some()) {
        return Err(Error::new("it holds more than one PEM block").hint("give each key a file of its own"));
    }
    decode(&body).context(|| "its text is no base64".into())
}

fn other_label(label: &str) -> Error {
    match label {
        "CERTIFICATE" | "TRUSTED CERTIFICATE" | "X509 CERTIFICATE" => Error::new("it is a certificate, not a public key")
            .hint("`openssl x509 -in FILE -noout -pubkey` writes the key that is in it"),
        "RSA PUBLIC KEY" => Error::new("it is an RSA key in the PKCS#1 form, which is not supported")
            .hint("`openssl rsa -RSAPublicKey_in -in FILE -pubout` writes it in the supported form"),
        _ => Error::new(format!("it is of the kind {label:?}, not {LABEL:?}")),
    }
}

fn damaged() -> Error {
    Error::new("it is damaged: what it holds is no public key")
}

/// A SubjectPublicKeyInfo (RFC 5280, section 4.1): the algorithm of a key, and the key.
struct Information<'a> {
    algorithm: &'a [u8],
    parameters: &'a [u8],
    key: &'a [u8],
}

impl<'a> Information<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut whole = Elements(bytes);
        let mut inside = Elements(whole.next(SEQUENCE)?);
        let mut algorithm = Elements(inside.next(SEQUENCE)?);
        let bits = inside.next(BIT_STRING)?;
        let name = algorithm.next(OBJECT_IDENTIFIER)?;
        // The first byte is the number of unused bits in the last one, which must be 0.
        let key = bits.strip_prefix(&[0])?;
        (whole.is_empty() && inside.is_empty()).then_some(Self { algorithm: name, parameters: algorithm.0, key })
    }

    fn kind(&self) -> Result<Kind> {
        let named = |what: &str| {
            Err(Error::new(format!("it is {what}, which is not supported"))
                .hint("images may be signed with ECDSA on P-256 or P-384, with Ed25519, or with RSA of 2048 to 8192 bits"))
        };
        match (self.algorithm, self.parameters) {
            (ELLIPTIC, P_256) => check_point(self.key, 32).map(|()| Kind::P256),
            (ELLIPTIC, P_384) => check_point(self.key, 48).map(|()| Kind::P384),
            (ELLIPTIC, P_521) => named("a key for ECDSA on P-521"),
            (ELLIPTIC, _) => named("a key on another elliptic curve"),
            (ED_25519, []) if self.key.len() == 32 => Ok(Kind::Ed25519),
            (RSA, NULL) => check_rsa(self.key).map(|()| Kind::Rsa),
            (ED_25519 | RSA, _) => Err(damaged()),
            (RSA_PSS, _) => named("an RSA key for PSS alone"),
            (ED_448, _) => named("a key for Ed448"),
            _ => named("another kind of key"),
        }
    }
}

/// Checks that a point (SEC 1, section 2.3.3) is uncompressed: it has both coordinates.
fn check_point(point: &[u8], width: usize) -> Result<()> {
    match point.split_first() {
        Some((4, rest)) if rest.len() == 2 * width => Ok(()),
        Some((2 | 3, rest)) if rest.len() == width => {
            Err(Error::new("it is a key in the compressed form, which is not supported")
                .hint("`openssl ec -pubin -in FILE -pubout -conv_form uncompressed` writes it in full"))
        }
        _ => Err(damaged()),
    }
}

/// Checks an RSAPublicKey (RFC 8017, section A.1.1) against the limits of `ring`.
fn check_rsa(key: &[u8]) -> Result<()> {
    let mut whole = Elements(key);
    let numbers = whole.next(SEQUENCE).and_then(|inside| {
        let mut inside = Elements(inside);
        let numbers = (inside.next_positive()?, inside.next_positive()?);
        (whole.is_empty() && inside.is_empty()).then_some(numbers)
    });
    let (modulus, exponent) = numbers.ok_or_else(damaged)?;
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) {
        return Err(Error::new(format!("it is an RSA key of {bits} bits, and from 2048 to 8192 are allowed")));
    }
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    let small = exponent.len() <= 4 && exponent != [1];
    if odd(modulus) && odd(exponent) && small { Ok(()) } else { Err(damaged()) }
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// The rest of a sequence of DER elements (X.690, chapter 10). In DER each element has exactly one encoding.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// The content of the next element, if it has this tag.
    fn next(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&first, rest) = self.0.strip_prefix(&[tag])?.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // The length of the length field; three bytes are enough for any key.
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
                let shortest = digits.first() != Some(&0) && length >= 0x80;
                (shortest.then_some(length)?, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }

    /// The bytes of a positive number, without the leading zero that keeps it positive.
    fn next_positive(&mut self) -> Option<&'a [u8]> {
        match self.next(INTEGER)? {
            number @ [1..=0x7f, ..] => Some(number),
            [0, number @ ..] if number.first() >= Some(&0x80) => Some(number),
            _ => None,
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::TEXT;
    use super::*;
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    const P256_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEbMyFxGOvsSEwLgqW41OQfwhyUa/B
iTG7D/ddHT6H7+BwbIRZZv1Ukv3dldaRezeaBEDlq1phfXoWKv8c8svkHg==
-----END PUBLIC KEY-----
";
    const COMPRESSED_KEY: &str = "-----BEGIN PUBLIC KEY-----
MDkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDIgACbMyFxGOvsSEwLgqW41OQfwhyUa/B
iTG7D/ddHT6H7+A=
-----END PUBLIC KEY-----
";
    const P256_SIGNATURE: &str =
        "MEQCIEH+kqJsFglxkQlrfZPBhPFWzixQKecPYWSoldMrfHJyAiB4IxuHlgHxdaHjMMeA0CaojMy0G7SMM/jgPrmR5ZXhDQ==";
    const ED25519_KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA031N5fePZOkvIpoXzkoTWvXM7cHnOHpkYxpYvBGlDFY=
-----END PUBLIC KEY-----
";
    const ED25519_SIGNATURE: &str = "eUXz4DoW4ZXJO2NtnaJMdtx2uJKdwoCd+djR8KRLf2E6KWiyr+1nXQZ0s6ZDuT2lVKWHwJyzuPXVX8JMp0zbCQ==";
    fn refused(pem: &str) -> (String, String) {
        let error = PublicKey::parse(pem).unwrap_err();
        (error.chain(), error.advice().unwrap_or_default().to_owned())
    }

    fn labelled(label: &str) -> String {
        format!("-----BEGIN {label}-----\nc2VjcmV0\n-----END {label}-----\n")
    }

    /// Flips every bit of a key and cuts it at every length: nothing panics, and no other key verifies the signature.
    fn damage(pem: &str, payload: &[u8], signature: &[u8]) {
        let whole = block(pem).unwrap();
        for length in 0..whole.len() {
            assert!(PublicKey::read(&whole[..length]).is_err(), "{length}");
        }
        assert!(PublicKey::read(&[&whole[..], &[0]].concat()).is_err());
        for bit in 0..whole.len() * 8 {
            let mut other = whole.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            if let Ok(key) = PublicKey::read(&other) {
                assert!(!key.verifies(payload, signature), "bit {bit}");
            }
        }
        for bit in 0..pem.len() * 8 {
            let mut other = pem.as_bytes().to_vec();
            other[bit / 8] ^= 1 << (bit % 8);
            if let Ok(key) = PublicKey::parse(&String::from_utf8_lossy(&other)) {
                assert_eq!(key.verifies(payload, signature), key.fingerprint() == Digest::of(&whole), "bit {bit}");
            }
        }
    }

    #[test]
    fn fixed_signatures_hold_and_damaged_ones_do_not() {
        for (pem, signature) in [(P256_KEY, P256_SIGNATURE), (ED25519_KEY, ED25519_SIGNATURE)] {
            let (key, mut signature) = (PublicKey::parse(pem).unwrap(), decode(signature).unwrap());
            assert!(key.verifies(TEXT.as_bytes(), &signature));
            assert!(!key.verifies(TEXT.replace("app", "apq").as_bytes(), &signature));
            assert!(!key.verifies(TEXT.as_bytes(), &[]));
            damage(pem, TEXT.as_bytes(), &signature);
            for bit in 0..signature.len() * 8 {
                signature[bit / 8] ^= 1 << (bit % 8);
                assert!(!key.verifies(TEXT.as_bytes(), &signature), "bit {bit}");
                signature[bit / 8] ^= 1 << (bit % 8);
            }
        }
        assert_eq!(
            PublicKey::parse(P256_KEY).unwrap().fingerprint().hex(),
            "4226da8a2b606ec4a50a030d72c8ee1594c605cb66b62066234a820aa3a079b1"
        );
        let ends = format!("A key:\r\n{}", P256_KEY.replace('\n', "\r\n"));
        assert!(PublicKey::parse(&ends).is_ok());
    }

    #[test]
    fn what_is_no_public_key_is_told_as_what_it_is() {
        for label in ["ENCRYPTED COSIGN PRIVATE KEY", "ENCRYPTED SIGSTORE PRIVATE KEY"] {
            let (text, hint) = refused(&labelled(label));
            assert!(text.contains("private key of cosign") && hint.contains("cosign.pub"), "{text}");
        }
        for label in ["PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
            let (text, hint) = refused(&(labelled("EC PARAMETERS") + &labelled(label)));
            assert!(text.contains("it is a private key") && hint.contains("openssl pkey"), "{text}");
            let (text, _) = refused(&labelled(label).replace('\n', ""));
            assert!(text.contains("it is a private key") && !text.contains("c2Vj"), "{text}");
        }
        assert!(refused(&labelled("CERTIFICATE")).0.contains("certificate"));
        assert!(refused(&labelled("RSA PUBLIC KEY")).1.contains("-RSAPublicKey_in"));
        assert!(refused(&labelled("PGP PUBLIC KEY BLOCK")).0.contains("PGP"));
        assert!(refused("ssh-ed25519 AAAA").0.contains("no PEM file"));
        assert!(refused(&P256_KEY.repeat(2)).0.contains("more than one PEM block"));
        assert!(refused(&labelled(LABEL)).0.contains("damaged"));
        assert!(refused(&P256_KEY.replace('=', "*")).0.contains("no base64"));
        assert!(refused(P256_KEY.trim_end().trim_end_matches('-')).0.contains("it ends before"));
        let (text, hint) = refused(COMPRESSED_KEY);
        assert!(text.contains("compressed") && hint.contains("-conv_form uncompressed"), "{text}");
    }

    #[test]
    fn lengths_have_one_encoding() {
        let one = |bytes: &[u8]| Elements(bytes).next(INTEGER).map(<[u8]>::to_vec);
        assert_eq!(one(&[2, 1, 9, 7]), Some(vec![9]));
        for bytes in [&[][..], &[2], &[3, 0], &[2, 1], &[2, 0x80, 0, 0], &[2, 0x81, 1, 9], &[2, 0x82, 0, 1, 9], &[2, 0x84]] {
            assert_eq!(one(bytes), None, "{bytes:?}");
        }
        for length in [0x80, 0xff, 0x100, 0x1_0000_usize] {
            let digits: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|digit| *digit == 0).collect();
            let head = [&[2, 0x80 | u8::try_from(digits.len()).unwrap()][..], &digits].concat();
            assert_eq!(one(&[head.clone(), vec![7; length]].concat()), Some(vec![7; length]));
            assert_eq!(one(&[head, vec![7; length - 1]].concat()), None);
        }
        let number = |bytes: &[u8]| Elements(bytes).next_positive().map(<[u8]>::to_vec);
        assert_eq!((number(&[2, 1, 0x7f]), number(&[2, 2, 0, 0x80])), (Some(vec![0x7f]), Some(vec![0x80])));
        for bytes in [&[2, 0][..], &[2, 1, 0], &[2, 1, 0x80], &[2, 2, 0, 0x7f]] {
            assert_eq!(number(bytes), None, "{bytes:?}");
        }
    }

    fn openssl(folder: &Path, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn signatures_of_openssl_hold() {
        if Command::new("openssl").arg("version").output().is_err() {
            println!("skipped: openssl is not there");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::write(path.join("payload"), TEXT).unwrap();
        let public = |algorithm: &str| {
            openssl(path, &format!("genpkey -algorithm {algorithm} -out private"));
            openssl(path, "pkey -in private -pubout -out public");
            fs::read_to_string(path.join("public")).unwrap()
        };
        let sha256 = "dgst -sha256 -sign private -out signature payload";
        for (algorithm, kind, sign) in [
            ("EC -pkeyopt ec_paramgen_curve:P-256", Kind::P256, sha256),
            ("EC -pkeyopt ec_paramgen_curve:P-384", Kind::P384, sha256),
            ("EC -pkeyopt ec_paramgen_curve:P-384", Kind::P384, "dgst -sha384 -sign private -out signature payload"),
            ("ED25519", Kind::Ed25519, "pkeyutl -sign -rawin -inkey private -in payload -out signature"),
            ("RSA -pkeyopt rsa_keygen_bits:2048", Kind::Rsa, sha256),
            ("RSA -pkeyopt rsa_keygen_bits:3072", Kind::Rsa, sha256),
        ] {
            let pem = public(algorithm);
            openssl(path, sign);
            let signature = fs::read(path.join("signature")).unwrap();
            let key = PublicKey::parse(&pem).unwrap();
            assert_eq!(key.kind, kind);
            assert!(key.verifies(TEXT.as_bytes(), &signature), "{algorithm}");
            assert!(!key.verifies(b"{}", &signature), "{algorithm}");
            damage(&pem, TEXT.as_bytes(), &signature);
        }
        for (algorithm, text) in [
            ("EC -pkeyopt ec_paramgen_curve:P-521", "P-521"),
            ("EC -pkeyopt ec_paramgen_curve:secp256k1", "another elliptic curve"),
            ("EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit", "another elliptic curve"),
            ("ED448", "Ed448"),
            ("X25519", "another kind of key"),
            ("RSA-PSS -pkeyopt rsa_keygen_bits:2048", "for PSS alone"),
            ("RSA -pkeyopt rsa_keygen_bits:1024", "of 1024 bits"),
        ] {
            assert!(refused(&public(algorithm)).0.contains(text), "{algorithm}");
        }
    }
}
