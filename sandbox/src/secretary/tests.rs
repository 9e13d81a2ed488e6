//! Scripts in, answers out.

use super::*;

const SALON: &str = "Nome: Salão Flor\nPreços: corte R$ 60,00; escova R$ 45,00\nHorário: terça a sábado, das 9h às 19h";

fn say(system: &str, burst: &[&str]) -> String {
    after(system, &[], burst)
}

fn after(system: &str, earlier: &[&str], burst: &[&str]) -> String {
    let old = earlier.iter().map(|text| ChatMessage { author: Author::Secretary, text: (*text).to_owned() });
    let new = burst.iter().map(|text| ChatMessage { author: Author::Customer, text: (*text).to_owned() });
    reply(&Conversation { system: system.to_owned(), messages: old.chain(new).collect() }).text
}

#[test]
fn a_greeting_is_returned_in_kind_with_the_name_of_the_business() {
    assert_eq!(say(SALON, &["Bom dia!!"]), "Bom dia! Você está falando com Salão Flor. Como posso ajudar?");
}

#[test]
fn a_known_customer_is_greeted_by_first_name() {
    assert_eq!(say("Cliente: Maria Souza", &["oi"]), "Olá, Maria! Como posso ajudar?");
}

#[test]
fn a_conversation_under_way_is_not_introduced_again() {
    assert_eq!(after(SALON, &["Olá!"], &["boa tarde"]), "Boa tarde! Como posso ajudar?");
}

#[test]
fn one_service_gets_its_own_price() {
    assert_eq!(
        after(SALON, &["Olá!"], &["quanto custa a escova?"]),
        "O valor é: escova R$ 45,00. Quer que eu veja um horário para você?"
    );
}

#[test]
fn an_open_question_gets_the_whole_price_list() {
    assert_eq!(
        after(SALON, &["Olá!"], &["me passa os valores"]),
        "Nossos valores são: corte R$ 60,00; escova R$ 45,00. Quer que eu veja um horário para você?"
    );
}

#[test]
fn no_price_is_invented() {
    let answer = say("Nome: Clínica Sol", &["Quanto custa a limpeza?"]);
    assert!(answer.contains("Vou confirmar o valor"), "{answer}");
    assert!(!answer.contains("R$") && !answer.chars().any(|letter| letter.is_ascii_digit()), "{answer}");
}

#[test]
fn opening_hours_come_from_the_instruction_or_not_at_all() {
    let known = after(SALON, &["Olá!"], &["que horas vocês abrem?"]);
    assert!(known.starts_with("Nosso horário de atendimento é: terça a sábado, das 9h às 19h."), "{known}");
    let unknown = after("", &["Olá!"], &["que horas vocês abrem?"]);
    assert!(unknown.starts_with("Vou confirmar o horário"), "{unknown}");
}

#[test]
fn a_booking_wish_asks_for_the_day_or_notes_it() {
    assert_eq!(
        after(SALON, &["Olá!"], &["queria marcar um horário"]),
        "Claro, vamos marcar! Qual dia e período ficam melhores para você?"
    );
    assert_eq!(
        after(SALON, &["Olá!"], &["tem horário sábado de manhã?"]),
        "Anotei a sua preferência: sábado, de manhã. Vou verificar a agenda e já te confirmo por aqui."
    );
}

#[test]
fn rescheduling_and_cancelling_are_not_taken_for_booking() {
    assert!(after("", &["Olá!"], &["preciso remarcar"]).starts_with("Sem problema, vamos remarcar!"));
    assert!(
        after("", &["Olá!"], &["quero cancelar meu agendamento"]).starts_with("Tudo bem, eu cuido do cancelamento.")
    );
}

#[test]
fn a_complaint_is_met_with_regret_and_nothing_else() {
    let answer = say(SALON, &["Isso é um absurdo", "quanto custa essa demora?"]);
    assert_eq!(
        answer,
        "Olá! Sinto muito pelo transtorno, e agradeço por me contar. Já estou passando o seu relato à equipe, para \
         resolvermos o quanto antes."
    );
}

#[test]
fn a_wish_for_a_person_is_granted() {
    assert!(
        after("", &["Olá!"], &["quero falar com um atendente"]).starts_with("Claro! Vou chamar uma pessoa da equipe")
    );
}

#[test]
fn thanks_are_returned() {
    assert_eq!(
        after(SALON, &["Marcado!"], &["muito obrigada 😊"]),
        "Por nada! Estou à disposição sempre que precisar."
    );
}

#[test]
fn a_burst_is_answered_once_and_in_full() {
    assert_eq!(
        say(SALON, &["Oi", "quanto custa o corte?", "e que horas abre?"]),
        "Olá! Você está falando com Salão Flor. O valor é: corte R$ 60,00. Nosso horário de atendimento é: terça a \
         sábado, das 9h às 19h. Quer que eu veja um horário para você?"
    );
}

#[test]
fn only_the_messages_since_the_last_answer_count() {
    let messages =
        [(Author::Customer, "quanto custa?"), (Author::Secretary, "R$ 60,00"), (Author::Customer, "obrigado")];
    let messages = messages.map(|(author, text)| ChatMessage { author, text: text.to_owned() });
    let reply = reply(&Conversation { system: String::new(), messages: messages.into() });
    assert_eq!(reply.topics, [Topic::Thanks]);
}

#[test]
fn words_that_fit_no_rule_get_an_offer_of_help() {
    assert!(after("", &["Olá!"], &["xyz"]).starts_with("Para eu ajudar direitinho"));
    assert!(after("", &["Olá!"], &["🎉"]).starts_with("Para eu ajudar direitinho"));
}
