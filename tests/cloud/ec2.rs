//! A cloud of the test's own: the four calls of EC2's query API that are about prefix-list references, and what can go
//! wrong with them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use announcerd::demo::lab::Host;
use announcerd::demo::lab::web::Web;

/// What happens to a call in the place of what it asks for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Trouble {
    /// 500, and nothing is done.
    Fails,
    /// No answer, and nothing is done.
    Hangs,
    /// It is answered as if it were done, and is not.
    IsForgotten,
    /// It is done, and no answer comes.
    IsDoneInSilence,
    /// It is done, and shows as under way to so many looks.
    IsSlow(u32),
}

/// A call as it came in: what, and of which route table.
pub type Call = (String, String);

#[derive(Clone, PartialEq, Debug)]
struct Reference {
    attachment: String,
    /// Looks for which it still shows as under way.
    pending: u32,
}

#[derive(Default)]
struct Cloud {
    references: BTreeMap<String, Reference>,
    calls: Vec<Call>,
    troubles: Vec<(Call, Trouble)>,
}

/// The endpoint; serves until dropped.
pub struct Ec2 {
    cloud: Arc<Mutex<Cloud>>,
    _web: Web,
}

impl Ec2 {
    pub fn start(host: &Host, at: SocketAddrV4) -> Self {
        let cloud: Arc<Mutex<Cloud>> = Arc::default();
        let held = cloud.clone();
        let web = Web::start(host, at, move |stream| serve(stream, &held)).unwrap();
        Ec2 { cloud, _web: web }
    }

    /// The next call of that kind for that table gets into trouble; the one after it into the next such trouble.
    pub fn trouble(&self, action: &str, table: &str, trouble: Trouble) {
        self.cloud.lock().unwrap().troubles.push(((action.into(), table.into()), trouble));
    }

    /// Where the table's reference points to.
    pub fn attachment(&self, table: &str) -> Option<String> {
        self.cloud.lock().unwrap().references.get(table).map(|r| r.attachment.clone())
    }

    pub fn set(&self, table: &str, attachment: &str) {
        let reference = Reference { attachment: attachment.into(), pending: 0 };
        self.cloud.lock().unwrap().references.insert(table.into(), reference);
    }

    /// The calls since it was asked last, of one table.
    pub fn calls(&self, table: &str) -> Vec<String> {
        let mut cloud = self.cloud.lock().unwrap();
        let (taken, left) = std::mem::take(&mut cloud.calls).into_iter().partition(|(_, t)| t == table);
        cloud.calls = left;
        let taken: Vec<Call> = taken;
        taken.into_iter().map(|(action, _)| action).collect()
    }

    /// True once nothing that was to go wrong is left.
    pub fn is_calm(&self) -> bool {
        self.cloud.lock().unwrap().troubles.is_empty()
    }
}

/// One connection, one call.
fn serve(mut stream: TcpStream, cloud: &Mutex<Cloud>) {
    let Some(form) = request(&mut stream) else { return };
    let field = |key: &str| form.get(key).cloned().unwrap_or_default();
    let action = field("Action").replace("TransitGatewayPrefixListReference", "");
    let (action, table) = (action.trim_end_matches('s').to_owned(), field("TransitGatewayRouteTableId"));
    let call = (action.clone(), table.clone());
    let mut cloud = cloud.lock().unwrap();
    cloud.calls.push(call.clone());
    let at = cloud.troubles.iter().position(|(whose, _)| *whose == call);
    let trouble = at.map(|at| cloud.troubles.remove(at).1);
    match trouble {
        Some(Trouble::Hangs) => {
            drop(cloud);
            hang(stream);
            return;
        }
        Some(Trouble::Fails) => return error(stream, 500, "InternalError"),
        _ => {}
    }
    let list = if action == "Get" { field("Filter.1.Value.1") } else { field("PrefixListId") };
    let exists = cloud.references.contains_key(&table);
    let pending = if let Some(Trouble::IsSlow(looks)) = trouble { looks } else { 0 };
    let reference = Reference { attachment: field("TransitGatewayAttachmentId"), pending };
    let changes = trouble != Some(Trouble::IsForgotten);
    match action.as_str() {
        "Get" => return answer(stream, "Get", &looked_at(&mut cloud, &table, &list)),
        "Create" if exists => return error(stream, 400, "PrefixListReferenceAlreadyExists"),
        "Modify" | "Delete" if !exists => return error(stream, 400, "InvalidPrefixListReference.NotFound"),
        "Create" | "Modify" if changes => drop(cloud.references.insert(table.clone(), reference)),
        "Delete" if changes => drop(cloud.references.remove(&table)),
        "Create" | "Modify" | "Delete" => {}
        _ => return error(stream, 400, "InvalidAction"),
    }
    drop(cloud);
    if trouble == Some(Trouble::IsDoneInSilence) {
        return hang(stream);
    }
    answer(
        stream,
        &action,
        &format!(
            "<transitGatewayPrefixListReference>{}</transitGatewayPrefixListReference>",
            item(&table, &list, "pending", "")
        ),
    );
}

/// What a look shows; each brings what is under way a step on.
fn looked_at(cloud: &mut Cloud, table: &str, list: &str) -> String {
    let items = cloud.references.get_mut(table).map(|reference| {
        let state = if reference.pending > 0 { "pending" } else { "available" };
        reference.pending = reference.pending.saturating_sub(1);
        format!("<item>{}</item>", item(table, list, state, &reference.attachment))
    });
    let items = items.unwrap_or_default();
    format!("<transitGatewayPrefixListReferenceSet>{items}</transitGatewayPrefixListReferenceSet>")
}

fn item(table: &str, list: &str, state: &str, attachment: &str) -> String {
    format!(
        "<transitGatewayRouteTableId>{table}</transitGatewayRouteTableId><prefixListId>{list}</prefixListId>\
         <state>{state}</state><blackhole>false</blackhole><transitGatewayAttachment>\
         <transitGatewayAttachmentId>{attachment}</transitGatewayAttachmentId><resourceType>vpn</resourceType>\
         </transitGatewayAttachment>"
    )
}

/// Until the client gives up.
fn hang(mut stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    let _ = stream.read(&mut [0; 1]);
}

fn answer(stream: TcpStream, action: &str, body: &str) {
    let name = format!(
        "{action}TransitGatewayPrefixListReference{}Response",
        if action == "Get" { "s" } else { "" }
    );
    let xmlns = "http://ec2.amazonaws.com/doc/2016-11-15/";
    reply(stream, "200 OK", &format!("<{name} xmlns=\"{xmlns}\"><requestId>1</requestId>{body}</{name}>"));
}

fn error(stream: TcpStream, status: u16, code: &str) {
    let words = "<Message>as the test wants it</Message>";
    let body = format!(
        "<Response><Errors><Error><Code>{code}</Code>{words}</Error></Errors><RequestID>1</RequestID></Response>"
    );
    reply(stream, &format!("{status} Error"), &body);
}

fn reply(mut stream: TcpStream, status: &str, body: &str) {
    let length = body.len();
    let head = "Content-Type: text/xml;charset=UTF-8\r\nConnection: close";
    // A client that has gone needs no answer.
    let _ = write!(stream, "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}");
}

/// The form of a POST.
fn request(stream: &mut TcpStream) -> Option<BTreeMap<String, String>> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
            if body.len() >= length?.trim().parse().ok()? {
                let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
                return Some(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
            }
        }
        match stream.read(&mut buffer) {
            Ok(length @ 1..) => bytes.extend(buffer.get(..length)?),
            _ => return None,
        }
    }
}
