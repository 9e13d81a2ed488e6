//! Finds the topics of a customer's messages by cues: words and phrases.

use super::business::plain;

/// The topics, in the order in which they are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    Greeting,
    Complaint,
    Human,
    Price,
    Hours,
    Address,
    Cancel,
    Reschedule,
    Booking,
    Thanks,
}

impl Topic {
    const ALL: [Self; 10] = [
        Self::Greeting,
        Self::Complaint,
        Self::Human,
        Self::Price,
        Self::Hours,
        Self::Address,
        Self::Cancel,
        Self::Reschedule,
        Self::Booking,
        Self::Thanks,
    ];

    /// Its name in structured answers.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Complaint => "complaint",
            Self::Human => "human",
            Self::Price => "price",
            Self::Hours => "hours",
            Self::Address => "address",
            Self::Cancel => "cancel",
            Self::Reschedule => "reschedule",
            Self::Booking => "booking",
            Self::Thanks => "thanks",
        }
    }

    /// Words and phrases that raise it, as [`Words::contains_any`] expects them.
    fn cues(self) -> &'static str {
        match self {
            Self::Greeting => "oi|oie|ola|opa|bom dia|boa tarde|boa noite|e ai|tudo bem|tudo bom",
            Self::Complaint => {
                "reclama*|pessim*|absurd*|horrivel|decepcion*|insatisfeit*|descaso|vergonha|procon|demorou|demorando|\
                 que demora|muita demora|essa demora|atrasad*|mal atendid*|nao gostei|ninguem responde*|\
                 ninguem me respond*|estou com um problema|deu errado"
            }
            Self::Human => {
                "atendente*|humano*|humana*|pessoa de verdade|falar com alguem|falar com uma pessoa|\
                 falar com a equipe|gerente|responsavel|suporte|robo"
            }
            Self::Price => {
                "preco*|valor*|custa*|quanto e|quanto fica|quanto sai|quanto ta|quanto esta|quanto cobra*|tabela|\
                 orcamento*"
            }
            Self::Hours => {
                "que horas|ate que hora*|horario de atendimento|horario de funcionamento|qual o horario|\
                 qual horario|quais os horarios|abre*|fecha*|aberto*|funcionam|funcionamento|atendem"
            }
            Self::Address => "endereco|onde fica*|onde voces ficam|localizacao|como chego|como chegar",
            Self::Cancel => "cancel*|desmarc*",
            Self::Reschedule => "remarc*|reagend*|mudar o horario|mudar meu horario|trocar o horario",
            Self::Booking => {
                "marcar|marca|agend*|reserv*|tem vaga*|tem horario*|horario disponivel|horarios disponiveis|\
                 disponibilidade|encaixe|quero um horario|queria um horario"
            }
            Self::Thanks => "obrigad*|valeu|agradec*|muito grat*",
        }
    }
}

/// The topics raised. After a complaint or the wish for a person the other topics are left to that person; of the wishes
/// about the agenda only the most specific is kept.
pub(super) fn topics_in(words: &Words) -> Vec<Topic> {
    let raised: Vec<Topic> = Topic::ALL.into_iter().filter(|topic| words.contains_any(topic.cues())).collect();
    let has = |topic| raised.contains(&topic);
    let handed_over = has(Topic::Complaint) || has(Topic::Human);
    let counts = |topic: &Topic| match topic {
        Topic::Greeting | Topic::Complaint | Topic::Human => true,
        Topic::Price | Topic::Hours | Topic::Address | Topic::Cancel | Topic::Thanks => !handed_over,
        Topic::Reschedule => !handed_over && !has(Topic::Cancel),
        Topic::Booking => !handed_over && !has(Topic::Cancel) && !has(Topic::Reschedule),
    };
    raised.iter().copied().filter(counts).collect()
}

/// A text as lower-case words without accents, with one blank around each.
pub(super) struct Words(String);

impl Words {
    pub(super) fn of(text: &str) -> Self {
        let plain = plain(text);
        let words = plain.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
        Self(words.fold(String::from(" "), |all, word| all + word + " "))
    }

    /// Whether one of the cues, separated by `|`, occurs as whole words. Cues have no accents; a `*` at the end of one
    /// matches any ending.
    pub(super) fn contains_any(&self, cues: &str) -> bool {
        cues.split('|').any(|cue| match cue.strip_suffix('*') {
            Some(stem) => self.0.contains(&format!(" {stem}")),
            None => self.0.contains(&format!(" {cue} ")),
        })
    }

    /// Whether a word of four letters or more, such as a service's name, is in both.
    pub(super) fn share_a_name_with(&self, item: &str) -> bool {
        let item = Self::of(item);
        item.0.split(' ').any(|word| word.chars().count() >= 4 && self.0.contains(&format!(" {word} ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_inside_another_raises_nothing() {
        let words = Words::of("coisa noite remarcar");
        assert!(!words.contains_any("oi"));
        assert!(!words.contains_any("marcar"));
    }

    #[test]
    fn every_topic_is_raised_by_each_of_its_cues() {
        for topic in Topic::ALL {
            for cue in topic.cues().split('|') {
                let words = Words::of(cue.trim_end_matches('*'));
                assert!(words.contains_any(topic.cues()), "{topic:?} by {cue:?}");
                assert_eq!(plain(cue), cue, "a cue with accents never matches");
            }
        }
    }
}
