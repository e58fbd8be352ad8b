//! The codec against an independent one, and against noise.

use proptest::prelude::*;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, PacketFlag, RCODE, ResourceRecord};

use super::*;

fn question(name: &str, record: &str) -> Question {
    Question { name: name.parse().unwrap(), record: Record::named(record).unwrap() }
}

/// The other codec's answer to a query of ours.
fn answer(query: &[u8], records: &[(&str, RData<'_>)]) -> Vec<u8> {
    let mut packet = simple_dns::Packet::parse(query).unwrap().into_reply();
    for (owner, data) in records {
        let name = simple_dns::Name::new(owner).unwrap();
        packet.answers.push(ResourceRecord::new(name, CLASS::IN, 60, data.clone()));
    }
    packet.build_bytes_vec_compressed().unwrap()
}

#[test]
fn the_other_codec_reads_our_query() {
    let packet = question("WWW.Example.com.", "MX").query(0xbeef);
    let packet = simple_dns::Packet::parse(&packet).unwrap();
    assert_eq!(packet.id(), 0xbeef);
    assert!(packet.has_flags(PacketFlag::RECURSION_DESIRED) && !packet.has_flags(PacketFlag::RESPONSE));
    let [asked] = &packet.questions[..] else { panic!("{packet:?}") };
    assert_eq!(asked.qname.to_string(), "www.example.com");
    assert_eq!(u16::from(asked.qtype), 15);
    assert_eq!(u16::from(asked.qclass), 1);
}

#[test]
fn every_type_is_said_in_one_form() {
    use simple_dns::rdata::*;
    let name = |n: &'static str| simple_dns::Name::new_unchecked(n);
    let soa = SOA {
        mname: name("ns1.example.com"),
        rname: name("admin.example.com"),
        serial: 7,
        refresh: 3600,
        retry: 600,
        expire: 86400,
        minimum: 300,
    };
    let txt = TXT::new().with_string("v=spf1 ").unwrap().with_string("-all").unwrap();
    let srv = SRV { priority: 0, weight: 5, port: 5060, target: name("Sip.example.com") };
    let cases: Vec<(&str, RData<'_>, &str, &str)> = vec![
        ("A", RData::A(A { address: 0xc000_0201 }), "192.0.2.1", "192.0.2.1"),
        ("AAAA", RData::AAAA(AAAA { address: 1 }), "::1", "0:0::0001"),
        ("NS", RData::NS(NS(name("ns1.example.com"))), "ns1.example.com", "NS1.example.com."),
        ("CNAME", RData::CNAME(CNAME(name("a.example.com"))), "a.example.com", "a.example.com"),
        ("PTR", RData::PTR(PTR(name("a.example.com"))), "a.example.com", "a.example.com"),
        (
            "MX",
            RData::MX(MX { preference: 10, exchange: name("mail.example.com") }),
            "10 mail.example.com",
            "10  Mail.example.com.",
        ),
        ("SRV", RData::SRV(srv), "0 5 5060 sip.example.com", "0 5 5060 sip.example.com"),
        (
            "SOA",
            RData::SOA(soa),
            "ns1.example.com admin.example.com 7 3600 600 86400 300",
            "ns1.example.com. admin.example.com. 7 3600 600 86400 300",
        ),
        ("TXT", RData::TXT(txt), "v=spf1 -all", "\"v=spf1 -all\""),
    ];
    for (record, data, said, written) in cases {
        let q = question("example.com", record);
        let reply = q.reply(9, &answer(&q.query(9), &[("example.com", data)])).unwrap();
        assert_eq!(reply.answers, [said], "{record}");
        assert_eq!(q.record.normal(written).unwrap(), said, "{record}");
    }
}

/// What a person writes, as dig or a zone file shows it, is what an answer says; what could never be one is refused.
#[test]
fn expectations_have_one_form() {
    let normal = |record: &str, text: &str| Record::named(record).unwrap().normal(text);
    for (record, written, said) in [
        ("MX", "010 MAIL.example.com.", "10 mail.example.com"),
        ("SRV", "00 05 5060 a.", "0 5 5060 a"),
        ("SOA", "a. b. 07 1 2 3 4", "a b 7 1 2 3 4"),
        ("TXT", "v=spf1 -all", "v=spf1 -all"),
        ("TXT", "\"v=spf1 \" \"-all\"", "v=spf1 -all"),
        ("TXT", "\"a\\\"b\\\\c\" \"\\228\\007\"", "a\"b\\c\\228\\007"),
        ("TXT", "a \"quoted\" word", "a \"quoted\" word"),
        ("CAA", "0 issue \"ca.example.net; policy=ev\"", "0 issue ca.example.net; policy=ev"),
        ("CAA", "128 IssueWild ca.example.net", "128 issuewild ca.example.net"),
        ("CAA", "0 issue \";\"", "0 issue ;"),
        ("TYPE65", "\\# 3 0a 0Bcd", "\\# 3 0A0BCD"),
        ("TYPE65", "\\# 0", "\\# 0"),
    ] {
        assert_eq!(normal(record, written).as_deref(), Ok(said), "{record} {written}");
    }
    for (record, written, wanted) in [
        ("MX", "mail.example.com", "a preference and a name"),
        ("MX", "70000 mail.example.com", "a preference and a name"),
        ("TXT", "\"open", "strings in quotes"),
        ("TXT", "\"a\"b", "strings in quotes"),
        ("TXT", "\"\\999\"", "strings in quotes"),
        ("CAA", "issue ca.example.net", "flags, tag and value"),
        ("CAA", "0 issue", "flags, tag and value"),
        ("TYPE65", "0a0b", "\\# 2 ABCD"),
        ("TYPE65", "\\# 2 0a", "\\# 2 ABCD"),
        ("TYPE65", "\\# 1 0x", "\\# 2 ABCD"),
    ] {
        let shape = normal(record, written).unwrap_err();
        assert!(shape.contains(wanted), "{record} {written}: {shape}");
    }
}

/// The quotes of a CAA record are the zone file's, not the value's.
#[test]
fn a_caa_record_is_said_as_it_is_written() {
    let q = question("example.com", "CAA");
    let mut message = answer(&q.query(9), &[]);
    message[7] = 1;
    let data = b"\x00\x05Issueca.example.net";
    message.extend([0xc0, 12, 1, 1, 0, 1, 0, 0, 0, 1, 0, data.len() as u8]);
    message.extend(data);
    let said = q.record.normal("0 issue \"ca.example.net\"").unwrap();
    assert_eq!(q.reply(9, &message).unwrap().answers, [said]);
}

/// RFC 1034 section 3.6.2: an alias is followed by the server, and its target's records stand behind it.
#[test]
fn what_an_alias_leads_to_counts() {
    use simple_dns::rdata::{A, CNAME};
    let q = question("www.example.com", "A");
    let alias = RData::CNAME(CNAME(simple_dns::Name::new_unchecked("host.example.net")));
    let records = [("www.example.com", alias), ("host.example.net", RData::A(A { address: 0xc000_0202 }))];
    let reply = q.reply(1, &answer(&q.query(1), &records)).unwrap();
    assert_eq!(reply.answers, ["192.0.2.2"]);
}

/// RFC 5452 section 9.1: id and question must be those of the query.
#[test]
fn what_is_no_answer_to_the_question_is_told_apart() {
    let q = question("www.example.com", "A");
    let good = answer(&q.query(1), &[]);
    assert!(q.reply(1, &good).is_ok());
    assert_eq!(q.reply(2, &good), Err(Foreign::OtherId));
    assert_eq!(q.reply(1, &q.query(1)), Err(Foreign::NoResponse));
    assert_eq!(q.reply(1, &good[..11]), Err(Foreign::Malformed));
    assert_eq!(q.reply(1, &good[..20]), Err(Foreign::Malformed));
    for other in [question("ww.example.com", "A"), question("www.example.com", "AAAA")] {
        assert_eq!(q.reply(1, &answer(&other.query(1), &[])), Err(Foreign::OtherQuestion));
    }
    // Only who fails may leave the question out.
    let mut bare = good[..12].to_vec();
    bare[5] = 0;
    assert_eq!(q.reply(1, &bare), Err(Foreign::OtherQuestion));
    bare[3] |= 1;
    assert_eq!(q.reply(1, &bare).unwrap().rcode.to_string(), "FORMERR");
}

/// RFC 1035 section 4.1.4: a name that points at itself, or two at each other.
#[test]
fn pointers_make_no_loop() {
    let q = question("a", "A");
    let header = [0, 1, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for name in
        [&[0xc0, 12][..], &[1, b'a', 0xc0, 12], &[0xc0, 14, 0xc0, 12], &[0xc0, 200], &[0x40, 1], &[0xc0]]
    {
        let message = [&header[..], name, &[0, 1, 0, 1]].concat();
        assert_eq!(q.reply(1, &message), Err(Foreign::Malformed), "{name:?}");
    }
}

#[test]
fn a_judgement_says_what_came_and_what_was_expected() {
    let reply = |rcode: &str, answers: &[&str]| Reply {
        rcode: Rcode::named(rcode).unwrap(),
        truncated: false,
        answers: answers.iter().map(|a| (*a).to_owned()).collect(),
    };
    let words = |expect: &Expect, reply: &Reply| expect.judge(Record::A, reply).err().unwrap_or_default();
    let both = Expect::Answers(vec!["192.0.2.1".into(), "192.0.2.2".into()]);
    assert_eq!(words(&Expect::Records, &reply("NOERROR", &["192.0.2.1"])), "");
    assert_eq!(words(&Expect::Records, &reply("NOERROR", &[])), "no A record, expected a record of type A");
    assert_eq!(words(&Expect::Records, &reply("SERVFAIL", &[])), "SERVFAIL, expected a record of type A");
    assert_eq!(words(&both, &reply("NOERROR", &["192.0.2.2", "192.0.2.3", "192.0.2.1"])), "");
    assert_eq!(words(&both, &reply("NOERROR", &["192.0.2.2"])), "192.0.2.2, expected 192.0.2.1, 192.0.2.2");
    let gone = Expect::Rcode(Rcode::named("NXDOMAIN").unwrap());
    assert_eq!(words(&gone, &reply("NXDOMAIN", &[])), "");
    assert_eq!(words(&gone, &reply("NOERROR", &["192.0.2.2"])), "NOERROR, expected NXDOMAIN");
}

#[test]
fn names_that_are_none() {
    let long = format!("{}.example", "a".repeat(64));
    let whole = ["a"; 130].join(".");
    for bad in ["", "..", ".a", "a..b", "a b", "ä.example", "a\\b", &long, &whole] {
        assert!(bad.parse::<Name>().is_err(), "{bad}");
    }
    for (good, said) in
        [(".", "."), ("A.b.", "a.b"), ("0/25.2.0.192.in-addr.arpa", "0/25.2.0.192.in-addr.arpa")]
    {
        assert_eq!(good.parse::<Name>().unwrap().to_string(), said);
    }
    assert_eq!(Record::named("type65").unwrap().to_string(), "TYPE65");
    assert!(["ANY", "TYPE255", "TYPE41", "TYPE0", "", "AA"].iter().all(|n| Record::named(n).is_none()));
}

proptest! {
    /// No datagram makes it panic, and none without the id and the question is taken.
    #[test]
    fn noise_is_survived(noise in proptest::collection::vec(any::<u8>(), 0..600), record in any::<u16>()) {
        let q = Question { name: "www.example.com".parse().unwrap(), record: record.into() };
        let _ = q.reply(7, &noise);
        // The same behind a good header and question.
        let mut message = answer(&question("www.example.com", "A").query(7), &[]);
        message[29..33].copy_from_slice(&[(record >> 8) as u8, record as u8, 0, 1]);
        message[7] = 3;
        message.extend(noise);
        let _ = q.reply(7, &message);
    }

    /// Records of noise under every type: what is read is said without a panic, and the codec agrees with the other one
    /// on what is a message.
    #[test]
    fn damaged_answers_are_survived(at in 0usize..120, to in any::<u8>(), cut in 0usize..120, code in 0u16..300) {
        use simple_dns::rdata::{A, MX, TXT};
        let q = Question { name: "www.example.com".parse().unwrap(), record: code.into() };
        let mx = MX { preference: 1, exchange: simple_dns::Name::new_unchecked("m.example.com") };
        let records = [
            ("www.example.com", RData::A(A { address: 1 })),
            ("www.example.com", RData::MX(mx)),
            ("www.example.com", RData::TXT(TXT::new().with_string("abc").unwrap())),
        ];
        let asked = question("www.example.com", "A");
        let mut message = answer(&asked.query(7), &records);
        let last = message.len() - 1;
        message[at.min(last)] = to;
        message.truncate(message.len() - cut.min(last));
        let _ = q.reply(7, &message);
        if let Ok(reply) = asked.reply(7, &message)
            && !reply.truncated
            && let Ok(theirs) = simple_dns::Packet::parse(&message)
        {
            let is_a = |r: &&ResourceRecord<'_>| matches!(r.rdata, RData::A(_)) && r.class == CLASS::IN;
            prop_assert_eq!(reply.answers.len(), theirs.answers.iter().filter(is_a).count());
            if reply.rcode == Rcode::NOERROR {
                prop_assert_eq!(theirs.rcode(), RCODE::NoError);
            }
        }
    }
}
