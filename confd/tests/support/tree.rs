//! Statements and blocks of a BIRD file.

/// `head;` or `head { body }`, white space in the head brought to single blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub head: String,
    pub body: Vec<Item>,
}

/// Parses a file. Panics on unbalanced braces: this is for tests.
pub fn parse(text: &str) -> Vec<Item> {
    let mut without_comments = String::new();
    for line in text.lines() {
        let mut quoted = false;
        let end = line
            .char_indices()
            .find(|(_, c)| {
                quoted ^= *c == '"';
                *c == '#' && !quoted
            })
            .map_or(line.len(), |(i, _)| i);
        without_comments.push_str(&line[..end]);
        without_comments.push('\n');
    }
    let mut chars = without_comments.chars().peekable();
    let items = block(&mut chars);
    assert!(chars.next().is_none(), "a closing brace too many");
    items
}

fn block(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Vec<Item> {
    let mut items = Vec::new();
    let mut head = String::new();
    let mut inner = 0; // braces that belong to an expression: debug { states }, 10.0.0.0/8{8,24}
    while let Some(&c) = chars.peek() {
        if c == '}' && inner == 0 {
            break;
        }
        chars.next();
        match c {
            ';' => push(&mut items, &mut head, Vec::new()),
            '{' if is_expression(&head) => {
                inner += 1;
                head.push(c);
            }
            '}' => {
                inner -= 1;
                head.push(c);
            }
            '{' => {
                let body = block(chars);
                assert_eq!(chars.next(), Some('}'), "a block without its end after {head:?}");
                while chars.peek().is_some_and(|c| c.is_whitespace()) {
                    chars.next();
                }
                if chars.peek() == Some(&';') {
                    chars.next();
                }
                push(&mut items, &mut head, body);
            }
            _ => head.push(c),
        }
    }
    push(&mut items, &mut head, Vec::new());
    items
}

fn is_expression(head: &str) -> bool {
    head.trim() == "debug" || (head.contains("~ [") && !head.contains(']'))
}

fn push(items: &mut Vec<Item>, head: &mut String, body: Vec<Item>) {
    let mut text = head.split_whitespace().collect::<Vec<_>>().join(" ");
    head.clear();
    // `if c then x = 1;` without braces: the body of one statement.
    let mut body = body;
    if let Some((condition, statement)) =
        text.clone().split_once(" then ").filter(|(c, s)| c.starts_with("if") && !s.is_empty())
    {
        assert!(body.is_empty(), "{text}");
        body = vec![Item { head: statement.to_owned(), body: Vec::new() }];
        text = format!("{condition} then");
    }
    if !text.is_empty() || !body.is_empty() {
        items.push(Item { head: text, body });
    }
}
