//! The site that is crawled: a web server on a thread of this program.

use anyhow::{Result, anyhow};
use std::thread;
use tiny_http::{Header, Response, Server};

/// How deeply the elements of the bad page are nested.
const DEPTH: usize = 1_000_000;

/// Serves so many pages for as long as the program runs. Returns the address.
pub fn serve(pages: u32) -> Result<String> {
    let server = Server::http("127.0.0.1:0").map_err(|error| anyhow!("cannot serve the site: {error}"))?;
    let address = format!("http://{}", server.server_addr());
    let html = Header::from_bytes("Content-Type", "text/html").map_err(|()| anyhow!("a header is not valid"))?;
    thread::spawn(move || {
        for request in server.incoming_requests() {
            let (status, text) = page(request.url(), pages);
            let answer = Response::from_string(text).with_status_code(status).with_header(html.clone());
            // Who asked may have been killed meanwhile.
            let _ = request.respond(answer);
        }
    });
    Ok(address)
}

fn page(url: &str, pages: u32) -> (u16, String) {
    if url == "/deep" {
        return (200, "<b>".repeat(DEPTH));
    }
    let number = url.strip_prefix('/').and_then(|number| number.parse::<u32>().ok()).filter(|number| *number < pages);
    let Some(number) = number else { return (404, "there is no such page".into()) };
    let mut text = format!("<html><title>Page {number}</title>");
    // Each is reached from the first one, most in several ways.
    let further = [2 * number + 1, 2 * number + 2, number * 7 % pages, number / 3];
    for link in further.into_iter().filter(|link| *link < pages) {
        text += &format!("<p><a href=\"/{link}\">page {link}</a></p>");
    }
    if number % 50 == 7 {
        text += &format!("<a href=\"/missing-{number}\">removed</a>");
    }
    if number == pages / 2 {
        text += "<a href=\"/deep\">a bad page</a>";
    }
    (200, text + "</html>")
}
