//! Every fixture in `fixtures/hooks` and the one line it ends as, then what no fixture can show.

use std::fs;

use domain::{Author, Content, InboundMessage};
use jiff::Timestamp;
use proptest::prelude::*;

use super::whaticket;
use crate::rejection::Rejection;

const RECEIVED_AT: i64 = 1_770_000_000;

fn parsed(body: &[u8]) -> Result<super::Parsed, Rejection> {
    whaticket(body, Timestamp::from_second(RECEIVED_AT).unwrap())
}

fn message(body: &str) -> InboundMessage {
    parsed(body.as_bytes()).unwrap().message
}

fn line(body: &[u8]) -> String {
    let (it, occurred_at) = match parsed(body) {
        Ok(it) => (it.message, it.occurred_at),
        Err(rejection @ Rejection::NotJson { .. }) => return format!("400 {rejection}"),
        Err(rejection) => return format!("{} {:?}", rejection.status().as_u16(), rejection),
    };
    let mut line = format!("{}", it.address);
    for alias in it.aliases.iter().skip(1) {
        line += &format!("={alias}");
    }
    line += &format!(" → {}", it.reply_to);
    if it.author == Author::Ourselves {
        line += " ourselves";
    }
    if let Some(name) = &it.name {
        line += &format!(" {name}");
    }
    line += &match &it.content {
        Content::Text { body } => format!(": {body:?}"),
        Content::Choice { id, label } => format!(": {label:?} ({})", id.as_deref().unwrap_or("-")),
        Content::Media { .. } | Content::Reaction { .. } => format!(": {}", it.content.as_text()),
        Content::Nothing => ": nothing".to_owned(),
    };
    if let Some(id) = &it.quotes {
        line += &format!(" on {id}");
    }
    if let Some(reason) = it.ignore {
        line += &format!(" ignored({reason})");
    }
    let id = it.provider_id.as_deref().unwrap_or("-");
    let when = if occurred_at.as_second() == RECEIVED_AT { "received" } else { "written" };
    line + &format!(" [{id} {when}]")
}

#[test]
fn every_fixture_ends_as_its_line_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/hooks");
    let mut lines: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "json"))
        .filter(|path| path.file_stem().is_some_and(|it| it != "signature_vectors"))
        .map(|path| format!("{}: {}", path.file_stem().unwrap().to_str().unwrap(), line(&fs::read(&path).unwrap())))
        .collect();
    lines.sort();
    insta::assert_snapshot!(lines.join("\n"), @"");
}

#[test]
fn an_answer_goes_to_the_number_as_reported_whatever_the_key_is() {
    let with_ninth = message(r#"{"number":"5531988880002","message":{"conversation":"a"}}"#);
    let without = message(r#"{"number":"553188880002","message":{"conversation":"a"}}"#);
    assert_eq!(with_ninth.address, without.address);
    assert_eq!([with_ninth.reply_to.as_str(), &without.reply_to], ["5531988880002", "553188880002"]);
}

#[test]
fn two_phones_in_one_hook_are_not_made_one_person() {
    let it = message(
        r#"{"number":"5511999990001","key":{"remoteJid":"5531988880002@s.whatsapp.net"},"message":{"conversation":"a"}}"#,
    );
    assert_eq!(it.aliases, [it.address]);
}

#[test]
fn the_first_part_counts_whatever_the_order_of_keys() {
    let text = |message: &str| {
        self::message(&format!(r#"{{"number":"5511999990001","message":{message}}}"#)).content.as_text()
    };
    assert_eq!(text(r#"{"imageMessage":{"caption":"b"},"conversation":"a"}"#), "a");
    assert_eq!(text(r#"{"conversation":"","imageMessage":{"caption":"b"}}"#), "[imagem] b");
}

#[test]
fn a_bomb_of_nested_wrappers_is_refused_and_not_followed() {
    let deep = |levels: usize| {
        let open = r#"{"ephemeralMessage":{"message":"#.repeat(levels);
        format!(r#"{{"number":"5511999990001","message":{open}{{"conversation":"a"}}{}}}"#, "}}".repeat(levels))
    };
    assert!(parsed(deep(8).as_bytes()).is_ok());
    assert!(matches!(parsed(deep(100_000).as_bytes()), Err(Rejection::NotJson { .. })));
    let arrays = format!(r#"{{"number":"5511999990001","message":{}"#, "[".repeat(1_000_000));
    assert!(matches!(parsed(arrays.as_bytes()), Err(Rejection::NotJson { .. })));
}

#[test]
fn no_refusal_repeats_the_body() {
    let Err(rejection) = parsed(br#"{"number":"5511999990001","message":{"conversation":segredo}}"#) else { panic!() };
    assert!(!rejection.to_string().contains("segredo"));
}

/// JSON with the names we look for, in every place and form.
fn any_hook() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "number",
        "ticket",
        "contact",
        "key",
        "remoteJid",
        "remoteJidAlt",
        "senderPn",
        "id",
        "messageId",
        "fromMe",
        "isGroup",
        "broadcast",
        "pushName",
        "name",
        "messageTimestamp",
        "low",
        "high",
        "message",
        "conversation",
        "extendedTextMessage",
        "text",
        "contextInfo",
        "stanzaId",
        "buttonsResponseMessage",
        "selectedButtonId",
        "selectedDisplayText",
        "listResponseMessage",
        "title",
        "singleSelectReply",
        "selectedRowId",
        "body",
        "interactiveResponseMessage",
        "nativeFlowResponseMessage",
        "paramsJson",
        "imageMessage",
        "caption",
        "reactionMessage",
        "protocolMessage",
        "type",
        "editedMessage",
        "ephemeralMessage",
        "messageContextInfo",
    ]);
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|it| it.to_string()),
        any::<i64>().prop_map(|it| it.to_string()),
        any::<u64>().prop_map(|it| it.to_string()),
        (-1e300..1e300f64).prop_map(|it| it.to_string()),
        any::<String>().prop_map(|it| serde_json::to_string(&it).unwrap()),
        prop::sample::select(vec![
            "\"5511999990001\"",
            "\"5511999990001@s.whatsapp.net\"",
            "\"@\"",
            "\"@lid\"",
            "\"1@lid\"",
            "\"a@@\"",
            "\"120363000000000000@g.us\"",
            "\"\\ud83d\"",
            "\"\\u0000\"",
            "\"REVOKE\"",
            "1760000000",
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(|it| format!("[{}]", it.join(","))),
            8 => prop::collection::hash_map(name.clone(), inner, 0..8).prop_map(|it| {
                let fields: Vec<_> = it.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    })
}

/// What every later room relies on.
fn is_sound(it: &InboundMessage) {
    assert_eq!(it.aliases.first(), Some(&it.address));
    assert!(!it.reply_to.is_empty() && it.address.as_str().len() <= 160);
    let written = serde_json::to_string(it).unwrap();
    assert!(!written.contains("\\u0000"), "Postgres cannot hold a NUL");
    assert_eq!(&serde_json::from_str::<InboundMessage>(&written).unwrap(), it);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body: Vec<u8>) {
        let _ = parsed(&body);
    }

    #[test]
    fn no_json_makes_it_panic_and_what_it_accepts_is_sound(body in any_hook()) {
        if let Ok(it) = parsed(body.as_bytes()) {
            is_sound(&it.message);
        }
    }

    #[test]
    fn any_message_of_a_known_sender_is_read_or_refused_by_its_shape(shape in any_hook()) {
        let body = format!(r#"{{"number":"5511999990001","message":{shape}}}"#);
        match parsed(body.as_bytes()) {
            Ok(it) => is_sound(&it.message),
            Err(rejection) => prop_assert!(matches!(rejection, Rejection::UnknownShape), "{rejection:?}"),
        }
    }

    #[test]
    fn a_hook_cut_anywhere_is_not_json(cut in 1..200usize) {
        let body = include_bytes!("../../../fixtures/hooks/baileys_buttons_response_message.json");
        let is_refused = matches!(parsed(&body[..cut]), Err(Rejection::NotJson { .. }));
        prop_assert!(is_refused);
    }

    #[test]
    fn any_text_arrives_as_it_was_typed(typed in "[^\u{0}]{1,300}", id in "[0-9A-F]{20}") {
        let body = serde_json::json!({"key": {"remoteJid": "5511999990001@s.whatsapp.net", "id": id}, "message": {"conversation": typed}});
        let it = message(&body.to_string());
        prop_assert_eq!(it.content, Content::Text { body: typed });
        prop_assert_eq!(it.provider_id, Some(id));
    }
}
