//! A source file with the places where a plant can be put: its tokens, and what they are parts of.

use std::ops::Range;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Block, Expr, File, Pat, Signature};

use crate::Failure;

/// Where something lies in a file, in bytes.
pub(super) type Place = Range<usize>;

/// A parsed source file.
pub(super) struct Source {
    /// All of it.
    pub(super) text: String,
    tokens: Vec<Token>,
    places: Places,
}

struct Token {
    text: String,
    at: Place,
}

/// What the syntax tree says of a file.
#[derive(Default)]
struct Places {
    expressions: Vec<Place>,
    /// The statements of each block, in order; the last may be the block's value.
    blocks: Vec<Vec<Place>>,
    functions: Vec<Function>,
    binary: Vec<(Place, Place)>,
    unary: Vec<(Place, Place)>,
    arms: Vec<Arm>,
}

/// A function that has a body.
struct Function {
    name: String,
    at: Place,
    /// From its first statement to its last.
    body: Option<Place>,
}

struct Arm {
    at: Place,
    pattern: Place,
    guard: Option<Place>,
}

/// What a piece of text is in the syntax of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    /// One or more whole statements of one block.
    Statements,
    /// A whole expression that is no statement.
    Expression,
}

impl Source {
    /// Parses a file.
    pub(super) fn parse(text: String) -> Result<Self, Failure> {
        let stream: TokenStream = text.parse().map_err(|error| format!("it cannot be cut into tokens: {error}"))?;
        let file: File = syn::parse_str(&text)?;
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        let mut places = Places::default();
        places.visit_file(&file);
        Ok(Self { text, tokens, places })
    }

    /// The one place where `wanted` stands, whatever the white space and the comments, inside the function named `within` if
    /// that is given.
    pub(super) fn find(&self, wanted: &str, within: Option<&str>) -> Result<Place, Failure> {
        let mut needle = Vec::new();
        flatten(wanted.parse().map_err(|error| format!("`{wanted}` cannot be cut into tokens: {error}"))?, &mut needle);
        let (Some(first), Some(_)) = (needle.first(), needle.last()) else {
            return Err("nothing to find".into());
        };
        let inside: Vec<&Place> = match within {
            None => Vec::new(),
            Some(name) => {
                self.places.functions.iter().filter(|found| found.name == name).map(|found| &found.at).collect()
            }
        };
        if within.is_some() && inside.is_empty() {
            return Err(format!("no function `{}`", within.unwrap_or_default()).into());
        }
        let mut found = Vec::new();
        for (at, token) in self.tokens.iter().enumerate() {
            let Some(here) = self.tokens.get(at..at + needle.len()) else { break };
            if token.text != first.text || here.iter().zip(&needle).any(|(here, wanted)| here.text != wanted.text) {
                continue;
            }
            let place = token.at.start..here[needle.len() - 1].at.end;
            if inside.is_empty() || inside.iter().any(|function| holds(function, &place)) {
                found.push(place);
            }
        }
        match found.as_slice() {
            [place] => Ok(place.clone()),
            [] => Err("its code is not there any more".into()),
            more => {
                Err(format!("its code is there {} times; name the function, or show more of it", more.len()).into())
            }
        }
    }

    /// What the text at `place` is, if it is anything whole.
    pub(super) fn syntax(&self, place: &Place) -> Option<Syntax> {
        let statements = self.places.blocks.iter().any(|block| {
            let first = block.iter().any(|statement| statement.start == place.start);
            let last = block.iter().any(|statement| statement.end == place.end);
            first && last
        });
        if statements {
            return Some(Syntax::Statements);
        }
        self.places.expressions.contains(place).then_some(Syntax::Expression)
    }

    /// The byte at a line and a column, both counted from 1, the column in characters.
    pub(super) fn byte(&self, line: usize, column: usize) -> Option<usize> {
        let mut start = 0;
        let mut lines = self.text.split_inclusive('\n');
        for _ in 1..line {
            start += lines.next()?.len();
        }
        let line = lines.next().unwrap_or_default();
        let within = line.char_indices().map(|(at, _)| at).chain([line.len()]).nth(column.checked_sub(1)?)?;
        Some(start + within)
    }

    /// The body of the function whose statements lie at `place`, or begin there.
    pub(super) fn body(&self, place: &Place) -> Option<Place> {
        self.places.functions.iter().filter_map(|function| function.body.clone()).find(|body| body == place)
    }

    /// The whole expression of the binary operator at `place`.
    pub(super) fn binary(&self, place: &Place) -> Option<Place> {
        self.places.binary.iter().find(|(operator, _)| operator == place).map(|(_, whole)| whole.clone())
    }

    /// The whole expression of the unary operator at `place`.
    pub(super) fn unary(&self, place: &Place) -> Option<Place> {
        self.places.unary.iter().find(|(operator, _)| operator == place).map(|(_, whole)| whole.clone())
    }

    /// Whether a match arm has its guard at `place`.
    pub(super) fn is_guard(&self, place: &Place) -> bool {
        self.places.arms.iter().any(|arm| arm.guard.as_ref() == Some(place))
    }

    /// The pattern and the guard of the match arm at `place`, a comma behind it included or not.
    pub(super) fn arm(&self, place: &Place) -> Option<(Place, Option<Place>)> {
        let found = self.places.arms.iter().find(|arm| arm.at.start == place.start && holds(place, &arm.at))?;
        Some((found.pattern.clone(), found.guard.clone()))
    }
}

/// Whether `outer` holds all of `inner`.
pub(super) fn holds(outer: &Place, inner: &Place) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn flatten(stream: TokenStream, into: &mut Vec<Token>) {
    for tree in stream {
        let whole = tree.span().byte_range();
        let TokenTree::Group(group) = tree else {
            into.push(Token { text: tree.to_string(), at: whole });
            continue;
        };
        let (open, close) = (group.span_open().byte_range(), group.span_close().byte_range());
        into.push(Token { text: "open".to_owned() + name(group.delimiter()), at: open });
        flatten(group.stream(), into);
        into.push(Token { text: "close".to_owned() + name(group.delimiter()), at: close });
    }
}

fn name(delimiter: proc_macro2::Delimiter) -> &'static str {
    match delimiter {
        proc_macro2::Delimiter::Parenthesis => "()",
        proc_macro2::Delimiter::Brace => "{}",
        proc_macro2::Delimiter::Bracket => "[]",
        proc_macro2::Delimiter::None => "",
    }
}

fn place(of: &impl Spanned) -> Place {
    of.span().byte_range()
}

impl Places {
    fn function(&mut self, signature: &Signature, whole: Place, block: &Block) {
        let body = match block.stmts.as_slice() {
            [] => None,
            [first, .., last] => Some(place(first).start..place(last).end),
            [only] => Some(place(only)),
        };
        self.functions.push(Function { name: signature.ident.to_string(), at: whole, body });
    }
}

impl<'ast> Visit<'ast> for Places {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, place(item), &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, place(item), &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, place(item), block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_block(&mut self, block: &'ast Block) {
        self.blocks.push(block.stmts.iter().map(place).collect());
        visit::visit_block(self, block);
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        let whole = place(expression);
        match expression {
            Expr::Binary(binary) => self.binary.push((place(&binary.op), whole.clone())),
            Expr::Unary(unary) => self.unary.push((place(&unary.op), whole.clone())),
            _ => {}
        }
        self.expressions.push(whole);
        visit::visit_expr(self, expression);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        let (pattern, guard) = match &arm.pat {
            Pat::Guard(guarded) => (place(&guarded.pat), Some(place(&guarded.guard))),
            other => (place(other), None),
        };
        self.arms.push(Arm { at: place(arm), pattern, guard });
        visit::visit_arm(self, arm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::parse(text.to_owned()).unwrap()
    }

    #[test]
    fn code_is_found_whatever_its_white_space_and_comments() {
        let source = source("fn a() { one( /* of them */ 1,\n    2); }\nfn b() { two(); two(); }");
        let place = source.find("one(1, 2)", None).unwrap();
        assert_eq!(&source.text[place], "one( /* of them */ 1,\n    2)");
        assert!(source.find("two()", None).unwrap_err().to_string().contains("2 times"));
        assert!(source.find("three()", None).unwrap_err().to_string().contains("not there"));
    }

    #[test]
    fn a_function_says_which_of_two_is_meant() {
        let source = source("fn a() { go(); }\nimpl B { fn b() { go(); } }");
        let place = source.find("go();", Some("b")).unwrap();
        assert_eq!(place.start, source.text.rfind("go();").unwrap());
        assert!(source.find("go();", Some("c")).is_err());
    }

    #[test]
    fn only_whole_statements_and_whole_expressions_are_replaced() {
        let source = source("fn a() -> u8 { let b = 1 + 2 * 3; c(); d(); b }");
        let syntax = |wanted| source.syntax(&source.find(wanted, None).unwrap());
        assert_eq!(syntax("c(); d();"), Some(Syntax::Statements));
        assert_eq!(syntax("d(); b"), Some(Syntax::Statements));
        assert_eq!(syntax("2 * 3"), Some(Syntax::Expression));
        assert_eq!(syntax("c()"), Some(Syntax::Expression));
        assert_eq!(syntax("1 + 2"), None);
        assert_eq!(syntax("let b"), None);
    }

    #[test]
    fn columns_are_counted_in_characters() {
        let source = source("fn a() {}\n/* ü */ fn b() {}\n");
        let at = source.byte(2, 9).unwrap();
        assert_eq!(&source.text[at..at + 4], "fn b");
        assert_eq!(source.byte(4, 1), None);
    }
}
