//! Whatever the file holds, the reader does not panic, and every place that it names is inside the file.

use std::path::Path;

use announcerd::config::{self, Env, ScriptVerdict};
use proptest::prelude::*;

const VALID: [&str; 2] =
    [include_str!("../conf/standby-bird.toml"), include_str!("../conf/standby-bgp.toml")];

/// Pieces that lead deeper into the reader than random characters do.
const PIECES: &[&str] = &[
    "[node]\n",
    "[[check]]\n",
    "[[instance]]\n",
    "[[instance.route]]\n",
    "[[instance.address]]\n",
    "[check]\n",
    "name = \"a\"\n",
    "type = \"ping\"\n",
    "type = \"http\"\n",
    "type = \"exec\"\n",
    "type = \"bgp\"\n",
    "host = \"198.18.0.1\"\n",
    "host = 5\n",
    "url = \"http://[::1]/\"\n",
    "command = \"'\\u4e2d\"\n",
    "to = \"default\"\n",
    "to = \"::/0\"\n",
    "dev = \"lo\"\n",
    "via = \"fe80::1\"\n",
    "metric = 0xffffffff\n",
    "primary = { checks = [\"a\"], down_when = 1 }\n",
    "require = { checks = [\"a\"] }\n",
    "fall = { of = 1 }\n",
    "address = \"2001:db8::1/128\"\n",
    "interval = \"1s\"\n",
    "timeout = \"9d\"\n",
    "[[bgp]]\n",
    "peer = \"203.0.113.1\"\n",
    "peer = \"a\"\n",
    "peer_as = 64500\n",
    "local_as = 64501\n",
    "next_hop = [\"2001:db8::1\"]\n",
    "password_file = \"good\"\n",
    "multihop = 2\nttl_security = true\n",
    "router_id = \"203.0.113.2\"\n",
    "[[instance.announce]]\n",
    "prefixes = [\"198.51.100.0/24\", \"0.0.0.0/0\"]\n",
    "prefixes_file = \"good\"\n",
    "prefixes_file = \"bad\"\n",
    "peers = [\"a\"]\n",
    "master = { med = 1, communities = [\"no-export\", \"1:2\"] }\n",
    "backup = \"withdraw\"\n",
    "backup = { prepend = 2 }\n",
    "= ",
    "[",
    "]",
    "{",
    "\"",
    "'''",
    "\\",
    "\r\n",
    "\t",
    "é",
    "中",
    "\u{feff}",
    "#",
    "\0",
    "a.b.c = 1\n",
    "node.name.x = 1\n",
    "1979-05-27",
    "1e999",
    "99999999999999999999999999999999999999999",
];

fn check(source: &str) -> Result<(), TestCaseError> {
    let file = |path: &Path| match path.to_str() {
        Some("good") => Ok(b"198.51.100.0/24\n".to_vec()),
        Some("bad") => Ok(b"\xff\n198.51.100.7/24 #\n1".to_vec()),
        _ => Err("there is none".to_owned()),
    };
    let env = Env {
        hostname: "h".into(),
        inspect_script: &|_| ScriptVerdict::Ok,
        read_secret: &file,
        read_prefixes: &file,
    };
    let items = match config::parse("f", source, &env) {
        Ok((_, warnings)) => warnings,
        Err(diagnostics) => {
            prop_assert!(diagnostics.errors() > 0, "refused without an error");
            prop_assert!(diagnostics.to_string().lines().count() > diagnostics.items.len());
            diagnostics.items
        }
    };
    let mut before = None;
    for item in items {
        let place = item.place.expect("every finding in a text has a place");
        let line = source.split('\n').nth(place.line - 1);
        let line = line.unwrap_or_else(|| panic!("line {} is outside of the file", place.line));
        prop_assert!(place.column >= 1 && place.column <= line.chars().count() + 1, "{item}");
        prop_assert!(before <= Some(place), "not sorted: {item}");
        before = Some(place);
    }
    Ok(())
}

/// A valid example with one piece of it replaced.
fn mutated() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<String>(),
        prop::sample::select(PIECES).prop_map(str::to_owned),
        Just(String::new()),
    ];
    (prop::sample::select(&VALID[..]), any::<prop::sample::Index>(), 0..40usize, piece).prop_map(
        |(valid, at, length, piece)| {
            let at = at.index(valid.len());
            let cut = |mut at: usize| {
                at = at.min(valid.len());
                while !valid.is_char_boundary(at) {
                    at -= 1;
                }
                at
            };
            format!("{}{piece}{}", &valid[..cut(at)], &valid[cut(at + length)..])
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(source in any::<String>()) {
        check(&source)?;
    }

    #[test]
    fn any_pieces(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..25)) {
        check(&pieces.concat())?;
    }

    #[test]
    fn a_valid_file_with_a_slip(source in mutated()) {
        check(&source)?;
    }
}
