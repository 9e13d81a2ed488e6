//! The outcome of every fixture in `fixtures/hooks`, one line each, then what no fixture can show.

use std::fs;

use domain::{Author, Content, IgnoreReason, InboundMessage};
use jiff::Timestamp;
use proptest::prelude::*;

use super::{UnsupportedKind, whaticket};
use crate::rejection::Rejection;

const RECEIVED_AT: i64 = 1_760_086_400;

fn parsed(body: &[u8]) -> Result<super::Parsed, Rejection> {
    whaticket(body, Timestamp::from_second(RECEIVED_AT).unwrap())
}

fn message(body: &str) -> InboundMessage {
    parsed(body.as_bytes()).unwrap().message
}

fn line(body: &[u8]) -> String {
    let (it, occurred_at, unsupported) = match parsed(body) {
        Ok(it) => (it.message, it.occurred_at, it.unsupported),
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
    if let Some(kind) = unsupported {
        line += &format!(" {}", kind.as_str());
    }
    let id = it.provider_id.as_deref().unwrap_or("-");
    let when = if occurred_at.as_second() == RECEIVED_AT { "received" } else { "written" };
    line + &format!(" [{id} {when}]")
}

#[test]
#[expect(clippy::too_many_lines, reason = "one line for each fixture")]
fn every_fixture_has_its_expected_outcome() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/hooks");
    let mut lines: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "json"))
        .filter(|path| path.file_stem().is_some_and(|it| it != "signature_vectors"))
        .map(|path| format!("{}: {}", path.file_stem().unwrap().to_str().unwrap(), line(&fs::read(&path).unwrap())))
        .collect();
    lines.sort();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    baileys_audio_message_ptt: 551199990001 → 5511999990001 Maria: [áudio] [3EB0C431C26A1916E07A written]
    baileys_blank_text: 551199990001 → 5511999990001 Maria: "  \n" ignored(stub) [3EB0C431C26A1916E07A written]
    baileys_blank_text_with_an_order: 551199990001 → 5511999990001 Maria: nothing ignored(unsupported_kind) order [3EB0C431C26A1916E07A written]
    baileys_br_12_digit_no_ninth: 553188880002 → 553188880002 Maria: "oi" [3EB0BR12 written]
    baileys_buttons_response_message: 551199990001 → 5511999990001 Maria: "Confirmar" (rem:confirm:9f1c) on 3EB0AAAABBBBCCCC0001 [3EB0C431C26A1916E07A written]
    baileys_call: 551199990001 → 5511999990001 Maria: nothing ignored(unsupported_kind) call [3EB0C431C26A1916E07A written]
    baileys_contact_message: 551199990001 → 5511999990001 Maria: [contato] [3EB0C431C26A1916E07A written]
    baileys_conversation: 551199990001 → 5511999990001 Maria: "Bom dia, queria marcar um horário" [3EB0C431C26A1916E07A written]
    baileys_decrypt_failed_stub: 551199990001 → 5511999990001 Maria: nothing ignored(stub) [- written]
    baileys_device_part_in_jid: 551199990001 → 5511999990001 Maria: "oi" [3EB0C431C26A1916E07A written]
    baileys_disappearing_poll: 551199990001 → 5511999990001 Maria: nothing ignored(unsupported_kind) poll [3EB0C431C26A1916E07A written]
    baileys_disappearing_timer_changed: 551199990001 → 5511999990001 Maria: nothing ignored(stub) [- written]
    baileys_document_message: 551199990001 → 5511999990001 Maria: [documento] [3EB0C431C26A1916E07A written]
    baileys_document_with_caption: 551199990001 → 5511999990001 Maria: [documento] meu exame [3EB0C431C26A1916E07A written]
    baileys_edit_with_type_as_integer: 551199990001 → 5511999990001 Maria: "sexta às 15h" on 3EB0OLD ignored(edited) [3EB0C431C26A1916E07A written]
    baileys_edited_message: 551199990001 → 5511999990001 Maria: "sexta, digo" on 3EB0OLD ignored(edited) [3EB0C431C26A1916E07A written]
    baileys_ephemeral_wrapped_text: 551199990001 → 5511999990001 Maria: "oi" [3EB0C431C26A1916E07A written]
    baileys_extended_text_message: 551199990001 → 5511999990001 Maria: "pode ser quinta às 15h?" on 3EB0AAAABBBBCCCC0001 [3EB0C431C26A1916E07A written]
    baileys_flow_list_choice: 551199990001 → 5511999990001 Maria: "Qui 16/10 15:00" (slot:2025-10-16T18:00:00Z) [3EB0C431C26A1916E07A written]
    baileys_flow_with_broken_params: 551199990001 → 5511999990001 Maria: "Confirmar" (-) [3EB0C431C26A1916E07A written]
    baileys_from_me_echo: 551199990001 → 5511999990001 ourselves: "resposta humana pelo celular" ignored(own_echo) [3EB0ME1 written]
    baileys_group_invite: 551199990001 → 5511999990001 Maria: nothing ignored(unsupported_kind) group_invite [3EB0C431C26A1916E07A written]
    baileys_group_message: g.us:120363000000000000 → 120363000000000000@g.us Maria: "oi grupo" ignored(group) [3EB0GRP1 written]
    baileys_group_poll: g.us:120363000000000000 → 120363000000000000@g.us Maria: nothing ignored(group) [3EB0C431C26A1916E07A written]
    baileys_half_an_emoji: 551199990001 → 5511999990001 Maria: "obrigada �" [3EB0C431C26A1916E07A written]
    baileys_image_message: 551199990001 → 5511999990001 Maria: [imagem] segue o pedido do exame [3EB0C431C26A1916E07A written]
    baileys_interactive_response_native_flow: 551199990001 → 5511999990001 Maria: "Confirmar" (rem:confirm:9f1c) on 3EB0AAAABBBBCCCC0001 [3EB0C431C26A1916E07A written]
    baileys_key_distribution_only: 551199990001 → 5511999990001 Maria: nothing ignored(stub) [- written]
    baileys_kind_of_next_year: 551199990001 → 5511999990001 Maria: nothing ignored(unsupported_kind) other [3EB0C431C26A1916E07A written]
    baileys_lid_only: lid:116900000000001 → 116900000000001@lid Maria: "oi" [3EB0LID2 written]
    baileys_lid_with_alt: 551199990001=lid:116900000000001 → 5511999990001 Maria: "oi" [3EB0LID1 written]
    baileys_lid_with_sender_pn: 551199990001=lid:116900000000001 → 5511999990001 Maria: "oi" [3EB0C431C26A1916E07A written]
    baileys_list_response_message: 551199990001 → 5511999990001 Maria: "Qui 16/10 15:00" (slot:2025-10-16T18:00:00Z) on 3EB0AAAABBBBCCCC0001 [3EB0C431C26A1916E07A written]
    baileys_location_message: 551199990001 → 5511999990001 Maria: [localização] [3EB0C431C26A1916E07A written]
    baileys_long_as_object_timestamp: 551199990001 → 5511999990001 Maria: "oi" [3EB0C431C26A1916E07A written]
    baileys_newsletter: newsletter:120363000000000001 → 120363000000000001@newsletter Maria: "novidades" ignored(newsletter) [3EB0C431C26A1916E07A written]
    baileys_nul_in_text: 551199990001 → 5511999990001 Ma�ria: "oi�tudo bem?" [3EB0C431C26A1916E07A written]
    baileys_order: 551199990001 → 5511999990001 Maria: nothing ignored(unsupported_kind) order [3EB0C431C26A1916E07A written]
    baileys_own_echo_of_a_poll: 551199990001 → 5511999990001 ourselves: nothing ignored(own_echo) [3EB0ME2 written]
    baileys_own_echo_to_lid_with_our_pn: lid:116900000000001 → 116900000000001@lid ourselves: "já te respondo" ignored(own_echo) [3EB0C431C26A1916E07A written]
    baileys_phone_with_lid_alt: 551199990001=lid:116900000000001 → 5511999990001 Maria: "oi" [3EB0C431C26A1916E07A written]
    baileys_pin: 551199990001 → 5511999990001 Maria: nothing ignored(unsupported_kind) pin [3EB0C431C26A1916E07A written]
    baileys_placeholder: 551199990001 → 5511999990001 Maria: nothing ignored(stub) [- written]
    baileys_poll: 551199990001 → 5511999990001 Maria: nothing ignored(unsupported_kind) poll [3EB0C431C26A1916E07A written]
    baileys_poll_vote: 551199990001 → 5511999990001 Maria: nothing ignored(unsupported_kind) poll [3EB0C431C26A1916E07A written]
    baileys_product: 551199990001 → 5511999990001 Maria: nothing ignored(unsupported_kind) product [3EB0C431C26A1916E07A written]
    baileys_reaction_message: 551199990001 → 5511999990001 Maria: [reação] 👍 on 3EB0AAAABBBBCCCC0001 ignored(reaction) [3EB0C431C26A1916E07A written]
    baileys_reaction_taken_back: 551199990001 → 5511999990001 Maria: [reação]  on 3EB0AAAABBBBCCCC0001 ignored(reaction) [3EB0C431C26A1916E07A written]
    baileys_revoke_protocol_message: 551199990001 → 5511999990001 Maria: nothing on 3EB0OLD ignored(revoked) [3EB0C431C26A1916E07A written]
    baileys_status_broadcast: broadcast:status → status@broadcast Maria: "status" ignored(broadcast) [3EB0ST1 written]
    baileys_sticker_message: 551199990001 → 5511999990001 Maria: [figurinha] [3EB0C431C26A1916E07A written]
    baileys_stub_without_message: 551199990001 → 5511999990001 Maria: nothing ignored(stub) [- written]
    baileys_template_button_reply_message: 551199990001 → 5511999990001 Maria: "Reagendar" (rem:reschedule:9f1c) on 3EB0AAAABBBBCCCC0001 [3EB0C431C26A1916E07A written]
    baileys_text_with_context_info: 551199990001 → 5511999990001 Maria: "tem vaga sexta?" [3EB0C431C26A1916E07A written]
    baileys_timestamp_beyond_year_9999: 551199990001 → 5511999990001 Maria: "oi" [3EB0C431C26A1916E07A received]
    baileys_timestamp_missing: 551199990001 → 5511999990001 Maria: "oi" [3EB0C431C26A1916E07A received]
    baileys_timestamp_negative: 551199990001 → 5511999990001 Maria: "oi" [3EB0C431C26A1916E07A received]
    baileys_ts_as_string: 551199990001 → 5511999990001 Maria: "oi" [3EB0C431C26A1916E07A written]
    baileys_video_message: 551199990001 → 5511999990001 Maria: [vídeo] olha só on 3EB0AAAABBBBCCCC0001 [3EB0C431C26A1916E07A written]
    baileys_view_once_emptied: 551199990001 → 5511999990001 Maria: nothing ignored(stub) [- written]
    baileys_view_once_image: 551199990001 → 5511999990001 Maria: [imagem] só uma vez [3EB0C431C26A1916E07A written]
    bridge_audio: 551199999999 → 5511999999999: [áudio] [- received]
    bridge_button: 551188877766 → 5511988877766: "Quero falar com suporte" (-) [- received]
    bridge_extended_text: 553188880002 → 5531988880002: "vocês abrem sábado?" [- received]
    bridge_group_ticket: g.us:120363000000000000 → 120363000000000000@g.us: "bom dia grupo" ignored(group) [- received]
    bridge_list: 551188877766 → 5511988877766 Joana: "Corte e escova" (svc:2) [- received]
    bridge_number_and_lid: 551199999999=lid:116900000000001 → 5511999999999: "olá" [3EB0LID3 received]
    bridge_number_as_integer: 551199999999 → 5511999999999: "olá" [- received]
    bridge_number_as_written: 553188880002 → 5531988880002: "olá" [- received]
    bridge_number_empty_contact_known: 551188877766 → 5511988877766: "olá" [- received]
    bridge_number_is_a_lid: lid:116900000000001 → 116900000000001@lid: "olá" [- received]
    bridge_own_echo: 551199999999 → 5511999999999 ourselves: "pode vir às 15h" ignored(own_echo) [3EB0BRIDGE03 received]
    bridge_poll: 551199999999 → 5511999999999: nothing ignored(unsupported_kind) poll [- received]
    bridge_text: 551199999999 → 5511999999999: "olá" [- received]
    bridge_text_as_number: 551199999999 → 5511999999999: "1" [- received]
    bridge_with_database_id: 551199999999 → 5511999999999: "olá" [3EB0BRIDGE02 received]
    bridge_with_id_and_name: 551199999999 → 5511999999999 Ana: "olá" [3EB0BRIDGE01 written]
    refused_array: 422 InvalidField { field: "body" }
    refused_conversation_is_null: 422 UnknownShape
    refused_cut_short: 400 the body is not JSON: unreadable at line 1, column 30
    refused_empty_object: 422 MissingNumber
    refused_id_too_long: 422 InvalidField { field: "key.id" }
    refused_lid_with_nul: 422 InvalidField { field: "key.remoteJid" }
    refused_message_is_a_string: 422 UnknownShape
    refused_message_is_empty: 422 UnknownShape
    refused_name_twice: 400 the body is not JSON: unreadable at line 1, column 66
    refused_no_message: 422 UnknownShape
    refused_no_number: 422 MissingNumber
    refused_not_json: 400 the body is not JSON: unreadable at line 3, column 26
    refused_number_is_a_list: 422 InvalidField { field: "number" }
    refused_number_is_a_word: 422 InvalidField { field: "number" }
    refused_number_too_short: 422 InvalidField { field: "number" }
    refused_number_with_a_fraction: 422 InvalidField { field: "number" }
    refused_poll_is_null: 422 UnknownShape
    refused_poll_without_number: 422 MissingNumber
    "#);
}

#[test]
fn an_answer_goes_to_the_number_as_reported_whatever_the_key_is() {
    let with_ninth = message(r#"{"number":"5531988880002","message":{"conversation":"a"}}"#);
    let without = message(r#"{"number":"553188880002","message":{"conversation":"a"}}"#);
    assert_eq!(with_ninth.address, without.address);
    assert_eq!([with_ninth.reply_to.as_str(), &without.reply_to], ["5531988880002", "553188880002"]);
}

#[test]
fn a_message_that_arrives_after_its_stub_is_not_taken_for_a_repeat() {
    let key = r#""key":{"remoteJid":"5511999990001@s.whatsapp.net","id":"3EB0"}"#;
    let stub = message(&format!(r#"{{{key},"message":null,"messageStubType":2}}"#));
    let text = message(&format!(r#"{{{key},"message":{{"conversation":"oi"}}}}"#));
    assert_eq!([stub.provider_id, text.provider_id], [None, Some("3EB0".to_owned())]);
}

#[test]
fn two_phones_in_one_webhook_are_not_made_one_person() {
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
fn of_several_unsupported_parts_the_first_known_kind_is_counted() {
    let kind = |parts: &str| {
        parsed(format!(r#"{{"number":"5511999990001","message":{parts}}}"#).as_bytes()).unwrap().unsupported
    };
    assert_eq!(kind(r#"{"aNewMessage":{},"orderMessage":{},"callLogMessage":{}}"#), Some(UnsupportedKind::Order));
    assert_eq!(kind(r#"{"orderMessage":{},"conversation":"quero estes"}"#), None, "what can be read is read");
}

#[test]
fn an_unsupported_kind_in_a_group_is_ignored_for_the_group_alone() {
    let it = parsed(br#"{"key":{"remoteJid":"120363000000000000@g.us"},"message":{"orderMessage":{}}}"#).unwrap();
    assert_eq!((it.message.ignore, it.unsupported), (Some(IgnoreReason::Group), None));
}

#[test]
fn deeply_nested_wrappers_are_refused() {
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

/// The names that the parser looks for.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "number", "ticket", "contact", "key", "remoteJid", "remoteJidAlt", "senderPn", "id", "messageId", "fromMe",
    "isGroup", "broadcast", "pushName", "name", "messageTimestamp", "low", "high", "message", "conversation",
    "extendedTextMessage", "text", "contextInfo", "stanzaId", "buttonsResponseMessage", "selectedButtonId",
    "selectedDisplayText", "listResponseMessage", "title", "singleSelectReply", "selectedRowId", "body",
    "interactiveResponseMessage", "nativeFlowResponseMessage", "paramsJson", "imageMessage", "caption",
    "reactionMessage", "protocolMessage", "type", "editedMessage", "pollCreationMessage", "ephemeralMessage", "messageContextInfo",
];

/// JSON with these names, anywhere and with values of any type.
fn any_hook() -> impl Strategy<Value = String> {
    let name = prop::sample::select(NAMES);
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

/// What later stages rely on.
fn assert_valid(it: &InboundMessage) {
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
    fn no_json_makes_it_panic_and_what_it_accepts_is_valid(body in any_hook()) {
        if let Ok(it) = parsed(body.as_bytes()) {
            assert_valid(&it.message);
        }
    }

    #[test]
    fn any_message_of_a_known_sender_is_read_or_refused_by_its_shape(shape in any_hook()) {
        let body = format!(r#"{{"number":"5511999990001","message":{shape}}}"#);
        match parsed(body.as_bytes()) {
            Ok(it) => assert_valid(&it.message),
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
