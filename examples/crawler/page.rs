//! A page: how it is fetched, and the links in it.

use serde::{Deserialize, Serialize};

/// What was found.
#[derive(Debug, Deserialize, Serialize)]
pub struct Page {
    pub url: String,
    pub status: u16,
    pub bytes: usize,
    pub title: String,
    pub links: Vec<String>,
}

/// A line of the file.
#[derive(Serialize)]
pub struct Row<'p> {
    url: &'p str,
    status: u16,
    bytes: usize,
    title: &'p str,
    links: usize,
}

impl Page {
    pub fn row(&self) -> Row<'_> {
        let Self { url, status, bytes, title, links } = self;
        Row { url, status: *status, bytes: *bytes, title, links: links.len() }
    }
}

/// Fetches a page of the site. One that cannot be fetched has no links, and the status 0.
pub fn fetch(site: &str, url: &str) -> Page {
    let mut page = Page { url: url.to_owned(), status: 0, bytes: 0, title: String::new(), links: Vec::new() };
    match ureq::get(format!("{site}{url}")).call() {
        Ok(mut answer) => {
            page.status = answer.status().as_u16();
            let text = answer.body_mut().read_to_string().unwrap_or_default();
            page.bytes = text.len();
            parse(&text, &mut page);
        }
        Err(ureq::Error::StatusCode(status)) => page.status = status,
        Err(_) => {}
    }
    page
}

/// Parses up to the end of the element that the text is in, and returns what is behind it. As many parsers, it trusts that
/// nobody nests elements without end: one that does overflows the stack.
fn parse<'t>(mut text: &'t str, page: &mut Page) -> &'t str {
    while let Some((before, rest)) = text.split_once('<') {
        if page.title.is_empty() {
            page.title = before.trim().to_owned();
        }
        let Some((tag, rest)) = rest.split_once('>') else { return "" };
        if tag.starts_with('/') {
            return rest;
        }
        if let Some(link) = tag.strip_prefix("a href=\"") {
            page.links.extend(link.strip_suffix('"').map(str::to_owned));
        }
        text = parse(rest, page);
    }
    ""
}
