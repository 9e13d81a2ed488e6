//! Facts about the business, read from the `Key: value` lines of the system instruction.
//!
//! Promise: nothing is invented; a fact that the instruction does not state is `None`, and the first line about it wins.
//! A key may be followed by a list (`- item` lines) instead of a value.

/// The facts a secretary may use.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Business {
    pub(super) name: Option<String>,
    pub(super) customer: Option<String>,
    /// One service and its price per item, as written.
    pub(super) prices: Vec<String>,
    pub(super) hours: Option<String>,
    pub(super) address: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fact {
    Name,
    Customer,
    Prices,
    Hours,
    Address,
}

impl Business {
    /// Reads a system instruction.
    pub(super) fn read(system: &str) -> Self {
        let mut found: Vec<(Fact, Vec<String>)> = Vec::new();
        let mut open = None;
        for line in system.lines() {
            let (item, bare) = (is_item(line), bare(line));
            if let Some((fact, value)) = fact_in(&bare) {
                open = (!found.iter().any(|(known, _)| *known == fact)).then(|| {
                    found.push((fact, Vec::from_iter((!value.is_empty()).then(|| value.to_owned()))));
                    found.len() - 1
                });
            } else if let Some((_, values)) = open.filter(|_| item).and_then(|open| found.get_mut(open)) {
                values.push(bare);
            } else {
                open = None;
            }
        }
        let mut values = |wanted: Fact| {
            let index = found.iter().position(|(fact, values)| *fact == wanted && !values.is_empty());
            index.map(|index| found.swap_remove(index).1).unwrap_or_default()
        };
        Self {
            prices: values(Fact::Prices).iter().flat_map(|line| items(line)).collect(),
            customer: one(values(Fact::Customer)).and_then(|name| name.split_whitespace().next().map(str::to_owned)),
            hours: one(values(Fact::Hours)),
            address: one(values(Fact::Address)),
            name: one(values(Fact::Name)).or_else(|| employer(system)),
        }
    }
}

fn one(values: Vec<String>) -> Option<String> {
    (!values.is_empty()).then(|| values.join("; ").trim_end_matches(['.', ' ']).to_owned())
}

fn fact_in(line: &str) -> Option<(Fact, &str)> {
    let (key, value) = line.split_once(':')?;
    let fact = match plain(key).trim() {
        "nome" | "empresa" | "negocio" | "estabelecimento" | "nome da empresa" | "nome do negocio" => Fact::Name,
        "cliente" | "contato" | "nome do cliente" | "nome do contato" => Fact::Customer,
        "preco" | "precos" | "valor" | "valores" | "tabela de precos" | "servicos e precos" | "servicos e valores" => {
            Fact::Prices
        }
        "horario"
        | "horarios"
        | "horario de atendimento"
        | "horarios de atendimento"
        | "funcionamento"
        | "horario de funcionamento" => Fact::Hours,
        "endereco" | "localizacao" | "local" => Fact::Address,
        _ => return None,
    };
    Some((fact, value.trim()))
}

/// The name in a sentence such as "Você é a secretária da Clínica Sol."
fn employer(system: &str) -> Option<String> {
    let (_, rest) = system.split_once("ecretári")?;
    let (before, name) =
        [" da ", " do ", " de "].iter().filter_map(|of| rest.split_once(of)).min_by_key(|(b, _)| b.len())?;
    // Further away it belongs to something else.
    if before.chars().count() > 20 || before.contains(['.', '\n']) {
        return None;
    }
    let name = name.split(['.', ',', ';', '\n']).next()?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Splits a price line into its items; the comma in `R$ 50,00` is not a separator.
fn items(line: &str) -> Vec<String> {
    let parts = line.split([';', '|']).flat_map(|part| part.split(", "));
    parts.map(|part| part.trim().trim_end_matches('.').to_owned()).filter(|part| !part.is_empty()).collect()
}

fn is_item(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with(['-', '•']) || line.starts_with("* ")
}

/// The line without list marks and emphasis.
fn bare(line: &str) -> String {
    line.replace('*', "").trim_start_matches(['-', '•', '#', ' ', '\t']).trim().to_owned()
}

/// Lower case, without Portuguese accents.
pub(super) fn plain(text: &str) -> String {
    let unaccented = |letter| match letter {
        'á' | 'à' | 'â' | 'ã' => 'a',
        'é' | 'ê' => 'e',
        'í' => 'i',
        'ó' | 'ô' | 'õ' => 'o',
        'ú' | 'ü' => 'u',
        'ç' => 'c',
        other => other,
    };
    text.chars().flat_map(char::to_lowercase).map(unaccented).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_from_lines_and_lists() {
        let read = Business::read(
            "Você é uma secretária virtual.\n**Nome:** Clínica Sol\nCliente: Maria Souza\nPreços:\n- Limpeza: R$ 150,00\n\
             - Clareamento: R$ 600,00\n\n- Seja gentil.\nHorário: segunda a sexta, 8h às 18h.",
        );
        assert_eq!(read.name.as_deref(), Some("Clínica Sol"));
        assert_eq!(read.customer.as_deref(), Some("Maria"));
        assert_eq!(read.prices, ["Limpeza: R$ 150,00", "Clareamento: R$ 600,00"]);
        assert_eq!(read.hours.as_deref(), Some("segunda a sexta, 8h às 18h"));
        assert_eq!(read.address, None);
    }

    #[test]
    fn a_price_line_splits_between_services_and_not_inside_an_amount() {
        let read = Business::read("Preços: corte R$ 50,00, barba R$ 35,50; pacote R$ 80,00.");
        assert_eq!(read.prices, ["corte R$ 50,00", "barba R$ 35,50", "pacote R$ 80,00"]);
    }

    #[test]
    fn the_first_line_about_a_fact_wins() {
        let read = Business::read("Nome: Salão Flor\nAnotações do cliente\nNome: Outro Salão");
        assert_eq!(read.name.as_deref(), Some("Salão Flor"));
    }

    #[test]
    fn the_employer_is_a_name_when_no_line_gives_one() {
        assert_eq!(
            Business::read("Você é a secretária virtual da Clínica Sol, gentil.").name.as_deref(),
            Some("Clínica Sol")
        );
        assert_eq!(Business::read("Você é a secretária. Fale de tudo.").name, None);
    }
}
