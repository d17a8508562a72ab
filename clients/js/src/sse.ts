// The parser of text/event-stream: HTML Standard, section 9.2.6.

export interface Block {
  /** The last event id of the stream so far. */
  id: string;
  event: string;
  /** undefined: the block had no data line. */
  data: string | undefined;
}

/** A block of more characters is none: an event of 8 MiB, the most that a server can be told to take, has fewer, each byte of it escaped. */
const longest = 64 << 20;

/**
 * parser returns a function that takes the bytes of a stream, cut anywhere. A block is told when
 * its empty line has come; what the stream ends within is nothing. Unlike a browser's parser it
 * tells blocks without data too: their id moves the cursor.
 */
export function parser(onBlock: (block: Block) => void, onRetry: (ms: number) => void): (bytes: Uint8Array) => void {
  const decoder = new TextDecoder(); // it takes the byte order mark away
  let rest = ""; // of a line that is not complete
  let afterCR = false; // a line feed that comes now belongs to the line before
  let id = "", event = "", data: string | undefined, touched = false;

  const line = (text: string) => {
    if (!text) {
      if (touched) onBlock({ id, event, data });
      event = "";
      data = undefined;
      touched = false;
      return;
    }
    const colon = text.indexOf(":");
    if (!colon) return; // a comment
    const field = colon < 0 ? text : text.slice(0, colon);
    let value = colon < 0 ? "" : text.slice(colon + 1);
    if (value[0] === " ") value = value.slice(1);
    if (field === "data") data = data === undefined ? value : data + "\n" + value;
    else if (field === "event") event = value;
    else if (field === "id") {
      if (value.includes("\0")) return;
      id = value;
    } else {
      if (field === "retry" && /^\d+$/.test(value)) onRetry(+value);
      return;
    }
    touched = true;
  };

  return (bytes) => {
    let text = decoder.decode(bytes, { stream: true });
    if (!text) return;
    if (afterCR && text[0] === "\n") text = text.slice(1);
    afterCR = text.endsWith("\r");
    if (!/[\r\n]/.test(text)) rest += text; // the middle of a long line: not searched again and again
    else {
      const lines = (rest + text).split(/\r\n?|\n/);
      rest = lines.pop()!;
      lines.forEach(line);
    }
    if (rest.length + (data?.length ?? 0) > longest) throw new Error("the stream has a block without end");
  };
}
