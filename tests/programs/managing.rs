//! A program with a manager that others use: `serve` prints its address and the server's pid, and waits to be killed;
//! `hit ADDRESS NAME` is another one, which uses it; `forget` returns without having ended its manager.

use pool_runtime::{Dict, Manager, Result, connection::AuthKey, managed, pool_main};

struct Hits {
    n: u64,
}

#[managed(name = "hits")]
impl Hits {
    fn new() -> Self {
        Self { n: 0 }
    }

    fn hit(&mut self) -> u64 {
        self.n += 1;
        self.n
    }

    #[managed(skip)]
    #[allow(dead_code, reason = "others try to call it")]
    fn secret(&self) -> u64 {
        self.n
    }

    fn hit_times(&mut self, times: u32) -> u64 {
        self.n += u64::from(times);
        self.n
    }
}

pool_main!(run);

fn run() -> Result<()> {
    let key = AuthKey::new("known to both programs");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => {
            let manager = Manager::builder().address("127.0.0.1:0").authkey(key).start()?;
            manager.publish("hits", &HitsProxy::new(&manager)?)?;
            let ages = Dict::<String, u32>::new(&manager)?;
            ages.insert("bob", &42)?;
            manager.publish("ages", &ages)?;
            HitsProxy::new(&manager)?.hit_times(1)?;
            println!("{}\n{}", manager.address(), manager.pid().expect("it was started here"));
            loop {
                std::thread::park();
            }
        }
        ["forget"] => {
            let manager = Manager::start()?;
            println!("{}", manager.pid().expect("it was started here"));
            std::mem::forget(manager);
            Ok(())
        }
        ["hit", address, name] => {
            let manager = Manager::connect(address, key)?;
            println!("{}", HitsProxy::open(&manager, name)?.hit()?);
            Ok(())
        }
        _ => panic!("{arguments:?}"),
    }
}
