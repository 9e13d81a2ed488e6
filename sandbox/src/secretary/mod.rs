//! The stand-in for the model: a few fixed rules that answer in Portuguese, as a friendly secretary would.
//!
//! Promise: pure; the same conversation always gets the same answer; all messages since the last answer get one answer;
//! no price, opening hour or address that the system instruction does not state.

mod business;
mod topics;

pub(crate) use topics::Topic;

use business::Business;
use topics::{Words, topics_in};

/// A conversation as the request to the model contains it.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    pub(crate) system: String,
    pub(crate) messages: Vec<ChatMessage>,
}

/// One message of a conversation.
#[derive(Debug)]
pub(crate) struct ChatMessage {
    pub(crate) author: Author,
    pub(crate) text: String,
}

/// Who wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Author {
    Customer,
    Secretary,
}

/// An answer and the topics it answers.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) text: String,
    pub(crate) topics: Vec<Topic>,
}

impl Conversation {
    /// The customer's messages since the last answer, one per line.
    pub(crate) fn latest_messages(&self) -> String {
        let burst = self.messages.rsplit(|message| message.author == Author::Secretary).next().unwrap_or_default();
        burst.iter().map(|message| message.text.as_str()).collect::<Vec<_>>().join("\n")
    }

    fn is_new(&self) -> bool {
        self.messages.iter().all(|message| message.author == Author::Customer)
    }
}

/// Answers the customer's messages since the last answer.
pub(crate) fn reply(conversation: &Conversation) -> Reply {
    let business = Business::read(&conversation.system);
    let words = Words::of(&conversation.latest_messages());
    let topics = topics_in(&words);
    let mut sentences = Vec::new();
    let substance: Vec<Topic> =
        topics.iter().copied().filter(|topic| !matches!(topic, Topic::Greeting | Topic::Thanks)).collect();
    if conversation.is_new() || topics.contains(&Topic::Greeting) {
        sentences.push(greeting(&words, &business));
    }
    if conversation.is_new()
        && let Some(name) = &business.name
        && !substance.contains(&Topic::Complaint)
    {
        sentences.push(format!("Você está falando com {name}."));
    }
    if substance.is_empty() {
        sentences.push(small_talk(&topics, &business));
    }
    sentences.extend(substance.iter().map(|topic| answer_to(*topic, &words, &business)));
    if substance.last().is_some_and(|last| matches!(last, Topic::Price | Topic::Hours | Topic::Address)) {
        sentences.push("Quer que eu veja um horário para você?".to_owned());
    }
    Reply { text: sentences.join(" "), topics }
}

fn greeting(words: &Words, business: &Business) -> String {
    let hello = [("bom dia", "Bom dia"), ("boa tarde", "Boa tarde"), ("boa noite", "Boa noite")];
    let hello = hello.iter().find(|(cue, _)| words.contains_any(cue)).map_or("Olá", |(_, hello)| hello);
    match &business.customer {
        Some(customer) => format!("{hello}, {customer}!"),
        None => format!("{hello}!"),
    }
}

fn small_talk(topics: &[Topic], business: &Business) -> String {
    match (topics, &business.customer) {
        ([.., Topic::Thanks], Some(customer)) => {
            format!("Por nada, {customer}! Estou à disposição sempre que precisar.")
        }
        ([.., Topic::Thanks], None) => "Por nada! Estou à disposição sempre que precisar.".to_owned(),
        ([Topic::Greeting], _) => "Como posso ajudar?".to_owned(),
        _ => "Para eu ajudar direitinho, pode me contar um pouco mais? Posso falar sobre valores, horários de \
              atendimento ou marcar um horário para você."
            .to_owned(),
    }
}

fn answer_to(topic: Topic, words: &Words, business: &Business) -> String {
    match topic {
        Topic::Greeting | Topic::Thanks => String::new(),
        Topic::Complaint => "Sinto muito pelo transtorno, e agradeço por me contar. Já estou passando o seu relato à \
                             equipe, para resolvermos o quanto antes."
            .to_owned(),
        Topic::Human => {
            "Claro! Vou chamar uma pessoa da equipe para continuar com você por aqui. Só um instante, por favor."
                .to_owned()
        }
        Topic::Price => prices(words, business),
        Topic::Hours => match &business.hours {
            Some(hours) => format!("Nosso horário de atendimento é: {hours}."),
            None => "Vou confirmar o horário de atendimento com a equipe e já te aviso por aqui.".to_owned(),
        },
        Topic::Address => match &business.address {
            Some(address) => format!("Nosso endereço é: {address}."),
            None => "Vou pedir o endereço certinho à equipe e já te envio por aqui.".to_owned(),
        },
        Topic::Cancel => {
            "Tudo bem, eu cuido do cancelamento. Pode me confirmar o dia e o horário que estavam marcados?".to_owned()
        }
        Topic::Reschedule => match preference(words) {
            Some(day) => format!(
                "Sem problema, vamos remarcar! Anotei a sua preferência: {day}. Vou verificar a agenda e já te confirmo."
            ),
            None => "Sem problema, vamos remarcar! Qual novo dia e período ficam melhores para você?".to_owned(),
        },
        Topic::Booking => match preference(words) {
            Some(day) => format!("Anotei a sua preferência: {day}. Vou verificar a agenda e já te confirmo por aqui."),
            None => "Claro, vamos marcar! Qual dia e período ficam melhores para você?".to_owned(),
        },
    }
}

/// The prices asked for, or all of them; never one that is not in the instruction.
fn prices(words: &Words, business: &Business) -> String {
    let asked: Vec<&str> =
        business.prices.iter().map(String::as_str).filter(|item| words.share_a_name_with(item)).collect();
    let all: Vec<&str> = business.prices.iter().map(String::as_str).collect();
    match (asked.as_slice(), all.as_slice()) {
        (_, []) => "Vou confirmar o valor certinho com a equipe e já te retorno por aqui. Qual serviço você procura?"
            .to_owned(),
        ([], all) => format!("Nossos valores são: {}.", all.join("; ")),
        ([item], _) => format!("O valor é: {item}."),
        (items, _) => format!("Os valores são: {}.", items.join("; ")),
    }
}

/// The days and parts of the day that are named, in the order of the calendar.
fn preference(words: &Words) -> Option<String> {
    const NAMES: [(&str, &str); 14] = [
        ("hoje", "hoje"),
        ("amanha", "amanhã"),
        ("segunda", "segunda-feira"),
        ("terca", "terça-feira"),
        ("quarta", "quarta-feira"),
        ("quinta", "quinta-feira"),
        ("sexta", "sexta-feira"),
        ("sabado", "sábado"),
        ("domingo", "domingo"),
        ("de manha", "de manhã"),
        ("pela manha", "de manhã"),
        ("a tarde", "à tarde"),
        ("de tarde", "à tarde"),
        ("a noite", "à noite"),
    ];
    let named: Vec<&str> = NAMES.iter().filter(|(cue, _)| words.contains_any(cue)).map(|(_, name)| *name).collect();
    (!named.is_empty()).then(|| named.join(", "))
}

#[cfg(test)]
mod tests;
