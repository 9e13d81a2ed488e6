//! What the contacts write. A turn's messages are sent without a pause; the next turn waits for the answer.

use serde_json::Value;

use crate::cast::Who;
use crate::hook::{Body, Contact, Expect, Hook, Pen, Proof, fixture};
use crate::script::{Answer, Delivery, Dialogue, Turn};
use crate::stage::Run;

const TEXT: &str = "/message/conversation";

/// Every dialogue of a run.
pub(crate) fn write(pen: &mut Pen, run: &Run) -> anyhow::Result<Vec<Dialogue>> {
    Ok(vec![
        buttons_and_lists(pen)?,
        a_burst(pen)?,
        with_and_without_the_ninth_digit(pen)?,
        behind_a_lid(pen)?,
        a_photo_and_a_voice_note(pen)?,
        the_provider_fails_twice(pen)?,
        a_number_without_whatsapp(pen)?,
        a_list_and_a_flow(pen)?,
        the_same_hook_twice(pen)?,
        a_complaint(pen)?,
        the_model_is_down(pen, run)?,
        the_provider_hangs_up(pen)?,
    ])
}

fn buttons_and_lists(pen: &mut Pen) -> anyhow::Result<Dialogue> {
    let ana = pen.contact("Ana");
    let button = ("/message/buttonsResponseMessage/selectedDisplayText", "Quero marcar um horário");
    let list = ("/message/listResponseMessage/title", "Agendar quinta-feira à tarde");
    let first = [(TEXT, "Bom dia! Quanto custa a limpeza?")];
    let hooks = [
        Hook::answered("a text", pen.baileys(fixture!("baileys_conversation"), &ana, &first)?),
        Hook::answered("a button", pen.baileys(fixture!("baileys_buttons_response_message"), &ana, &[button])?),
        Hook::answered("a list reply", pen.baileys(fixture!("baileys_list_response_message"), &ana, &[list])?),
        Hook::answered(
            "a text",
            pen.baileys(fixture!("baileys_conversation"), &ana, &[(TEXT, "Perfeito, obrigada!")])?,
        ),
    ];
    Ok(dialogue(Who::Clinic, ana, hooks.into_iter().map(|it| turn([it]))))
}

fn a_burst(pen: &mut Pen) -> anyhow::Result<Dialogue> {
    let bruno = pen.contact("Bruno");
    let mut text = |it| pen.bridge(fixture!("bridge_text"), &bruno, &[(TEXT, it)]);
    let hooks = [
        Hook::answered("the first of a burst", text("oi")?),
        Hook::answered("the second of a burst", text("vocês atendem sábado?")?),
        Hook::answered("the third of a burst", text("e onde fica a clínica?")?),
    ];
    Ok(dialogue(Who::Clinic, bruno, [turn(hooks)]))
}

fn with_and_without_the_ninth_digit(pen: &mut Pen) -> anyhow::Result<Dialogue> {
    let carla = pen.contact("Carla");
    let short = format!("{}@s.whatsapp.net", carla.short_phone());
    let later = [("/key/remoteJid", short.as_str()), (TEXT, "Pode remarcar para sexta de manhã?")];
    let hooks = [
        (
            "thirteen digits",
            pen.bridge(fixture!("bridge_text"), &carla, &[(TEXT, "Boa tarde, preciso remarcar a consulta")])?,
        ),
        ("twelve digits", pen.baileys(fixture!("baileys_br_12_digit_no_ninth"), &carla, &later)?),
    ];
    Ok(dialogue(Who::Clinic, carla, each(hooks)))
}

fn behind_a_lid(pen: &mut Pen) -> anyhow::Result<Dialogue> {
    let diego = pen.contact("Diego");
    let phone = format!("{}@s.whatsapp.net", diego.phone);
    let first = [
        ("/key/remoteJid", diego.lid.as_str()),
        ("/key/remoteJidAlt", phone.as_str()),
        (TEXT, "Qual o endereço de vocês?"),
    ];
    let later = [(TEXT, "E quanto fica o clareamento?")];
    let hooks = [
        ("an @lid with its number", pen.baileys(fixture!("baileys_lid_with_alt"), &diego, &first)?),
        ("the number alone", pen.baileys(fixture!("baileys_conversation"), &diego, &later)?),
    ];
    Ok(dialogue(Who::Clinic, diego, each(hooks)))
}

fn a_photo_and_a_voice_note(pen: &mut Pen) -> anyhow::Result<Dialogue> {
    let elisa = pen.contact("Elisa");
    let caption = ("/message/imageMessage/caption", "Esse é o pedido do dentista. Quanto custa o canal?");
    let hooks = [
        ("an image with a caption", pen.baileys(fixture!("baileys_image_message"), &elisa, &[caption])?),
        ("a voice note", pen.baileys(fixture!("baileys_audio_message_ptt"), &elisa, &[])?),
    ];
    Ok(dialogue(Who::Clinic, elisa, each(hooks)))
}

fn the_provider_fails_twice(pen: &mut Pen) -> anyhow::Result<Dialogue> {
    let fabio = pen.contact("Fábio");
    let text = [("/message/extendedTextMessage/text", "Vocês têm horário amanhã à tarde?")];
    let hook = Hook::answered("an extended text", pen.bridge(fixture!("bridge_extended_text"), &fabio, &text)?);
    let turn = Turn { delivery: Delivery::TakenAtLast, ..turn([hook]) };
    Ok(dialogue(Who::Clinic, fabio, [turn]))
}

fn a_number_without_whatsapp(pen: &mut Pen) -> anyhow::Result<Dialogue> {
    let gil = pen.contact("Gil");
    let hook =
        Hook::answered("a text", pen.bridge(fixture!("bridge_text"), &gil, &[(TEXT, "Quero agendar uma avaliação")])?);
    let turn = Turn { delivery: Delivery::NoSuchNumber, ..turn([hook]) };
    Ok(dialogue(Who::Clinic, gil, [turn]))
}

fn a_list_and_a_flow(pen: &mut Pen) -> anyhow::Result<Dialogue> {
    let joana = pen.contact("Joana");
    let row = ("/message/listResponseMessage/title", "Valor do corte e da escova");
    let params = r#"{"id":"slot:sabado","display_text":"Marcar no sábado de manhã"}"#;
    let chosen = ("/message/interactiveResponseMessage/nativeFlowResponseMessage/paramsJson", params);
    let hooks = [
        ("a bridge's list reply", pen.bridge(fixture!("bridge_list"), &joana, &[row])?),
        ("a native flow", pen.baileys(fixture!("baileys_flow_list_choice"), &joana, &[chosen])?),
    ];
    Ok(dialogue(Who::Salon, joana, each(hooks)))
}

fn the_same_hook_twice(pen: &mut Pen) -> anyhow::Result<Dialogue> {
    let karina = pen.contact("Karina");
    let text = [(TEXT, "Oi! Vocês têm horário na sexta à noite?")];
    let hook = Hook::answered("a text", pen.bridge(fixture!("bridge_with_id_and_name"), &karina, &text)?);
    let again =
        Hook { what: "the same hook again", body: Body::SameAgain, proof: Proof::Good, expect: Expect::Repeated };
    Ok(dialogue(Who::Salon, karina, [turn([hook, again])]))
}

fn a_complaint(pen: &mut Pen) -> anyhow::Result<Dialogue> {
    let livia = pen.contact("Lívia");
    let text = [("/message/extendedTextMessage/text", "Meu cabelo deu errado e ninguém me responde!")];
    let hooks = [
        ("a complaint", pen.bridge(fixture!("bridge_extended_text"), &livia, &text)?),
        ("a bridge's button", pen.bridge(fixture!("bridge_button"), &livia, &[])?),
    ];
    Ok(dialogue(Who::Salon, livia, each(hooks)))
}

fn the_model_is_down(pen: &mut Pen, run: &Run) -> anyhow::Result<Dialogue> {
    let marina = pen.contact("Marina");
    // The model does not see who writes, so the fault is tied to words that only this run has.
    let reading = format!("pedido {run}");
    let text = format!("Boa noite! Alguma novidade do {reading}?");
    let hook = Hook::answered("a text", pen.bridge(fixture!("bridge_number_as_written"), &marina, &[(TEXT, &text)])?);
    let turn = Turn { answer: Answer::Fallback { reading }, ..turn([hook]) };
    Ok(dialogue(Who::Salon, marina, [turn]))
}

fn the_provider_hangs_up(pen: &mut Pen) -> anyhow::Result<Dialogue> {
    let paula = pen.contact("Paula");
    let hook = Hook::answered(
        "a text",
        pen.baileys(fixture!("baileys_device_part_in_jid"), &paula, &[(TEXT, "Que horas vocês abrem?")])?,
    );
    let turn = Turn { delivery: Delivery::TakenInSilence, ..turn([hook]) };
    Ok(dialogue(Who::Salon, paula, [turn]))
}

fn dialogue(who: Who, contact: Contact, turns: impl IntoIterator<Item = Turn>) -> Dialogue {
    Dialogue { who, contact, turns: turns.into_iter().collect() }
}

/// Hooks that are answered together, by the model, without trouble.
fn turn(hooks: impl IntoIterator<Item = Hook>) -> Turn {
    Turn { hooks: hooks.into_iter().collect(), answer: Answer::Model, delivery: Delivery::Taken }
}

/// A turn for each.
fn each(hooks: impl IntoIterator<Item = (&'static str, Value)>) -> impl Iterator<Item = Turn> {
    hooks.into_iter().map(|(what, body)| turn([Hook::answered(what, body)]))
}
