//! cargo run --release --example crawler
//!
//! Processes that crawl a site, which this program serves itself. Addresses wait on a queue that is joined when all pages
//! are done; which pages were seen is in a manager; a process of its own writes the results to a file. One page kills
//! whoever parses it: that costs this page, and nothing else.

mod page;
mod seen;
mod site;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use page::{Page, fetch};
use pool_runtime::{Manager, Passed, Pool, Process, Queue, cpu_count, pool_main, task};
use seen::SeenProxy;
use std::fs::File;
use std::path::PathBuf;

/// Crawls a site that it serves itself.
#[derive(Parser)]
struct Args {
    /// How many pages the site has
    #[arg(long, default_value_t = 500)]
    pages: u32,
    /// How many processes fetch pages
    #[arg(long, default_value_t = 2 * cpu_count())]
    workers: usize,
    /// Where to write what was found
    #[arg(long, default_value = "crawled.csv")]
    output: PathBuf,
}

/// Fetches pages until there are no more. It is run again if a page has killed its process.
#[task(retries = 100)]
fn crawl(site: &str, urls: &Queue<String>, seen: &SeenProxy, pages: &Queue<Page>) -> Result<u32> {
    let mut count = 0;
    for url in urls {
        let url = url?;
        seen.begin(&url)?;
        let page = fetch(site, &url);
        for link in seen.add(&page.links)? {
            urls.put(&link)?;
        }
        pages.put(&page)?;
        seen.end(&url)?;
        urls.task_done()?;
        count += 1;
    }
    Ok(count)
}

/// Writes what was found, as it comes. Returns the number of pages, and of those that are missing.
#[task]
fn write(pages: &Queue<Page>, file: Passed<File>) -> Result<(u32, u32)> {
    let mut rows = csv::Writer::from_writer(file.into_inner()?);
    let (mut count, mut missing) = (0, 0);
    for page in pages {
        let page = page?;
        count += 1;
        missing += u32::from(page.status != 200);
        rows.serialize(page.row())?;
    }
    rows.flush()?;
    Ok((count, missing))
}

pool_main!(run);

fn run() -> Result<()> {
    let args = Args::parse();
    let site = site::serve(args.pages)?;
    let file = File::create(&args.output).with_context(|| format!("cannot write {}", args.output.display()))?;

    let manager = Manager::start()?;
    let seen = SeenProxy::new(&manager)?;
    let (urls, pages) = (Queue::unbounded()?, Queue::bounded(100)?);
    let writer = Process::new(write::call(&pages, Passed::new(file)?)).name("write").start()?;
    let pool = Pool::new(args.workers)?;
    let jobs: Vec<_> = (0..args.workers).map(|_| pool.apply_async(crawl::call(&site, &urls, &seen, &pages))).collect();

    for first in seen.add(&["/0".to_owned()])? {
        urls.put(&first)?;
    }
    // Until all are done that anybody has put there, or only those are left whose process has ended.
    if let Err(error) = urls.join() {
        let lost = error.lost_items().ok_or(error)?;
        println!("pages that have killed the process that parsed them, {lost} in all:");
        seen.begun()?.iter().for_each(|url| println!("  {url}"));
    }
    urls.close();
    for job in jobs {
        println!("one call has fetched {} pages", job.get()??);
    }
    pages.close();
    let (count, missing) = writer.join()??;
    println!("{count} pages are in {}, of which {missing} do not exist", args.output.display());
    ensure!(count - missing == args.pages, "the site has {} pages", args.pages);
    Ok(())
}
