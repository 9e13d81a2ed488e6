//! Text for a terminal: lines that end before the edge, and goes on under their beginning.

/// Columns of a line at most.
const WIDTH: usize = 110;

/// `head` and `text`, wrapped between words; what goes on is indented as far as the text begins.
pub(crate) fn hang(head: &str, text: &str) -> String {
    let indent = head.chars().count();
    let (mut out, mut column) = (head.to_owned(), indent);
    for (n, word) in text.split_whitespace().enumerate() {
        let width = word.chars().count();
        if n > 0 && column + 1 + width > WIDTH {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else if n > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_goes_on_under_its_beginning() {
        let long = "palavra ".repeat(20);
        let lines: Vec<String> = hang("  10:00  →  ", &long).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("  10:00  →  palavra palavra"));
        assert!(lines[1].starts_with("            palavra"));
        assert!(lines.iter().all(|it| it.chars().count() <= WIDTH));
    }

    #[test]
    fn a_word_longer_than_a_line_stays_whole() {
        let word = "a".repeat(200);
        assert_eq!(hang("> ", &word), format!("> {word}"));
    }
}
