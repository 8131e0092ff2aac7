package harness

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A Field is one header field of HTTP/2, pseudo-header or not.
type Field struct{ Name, Value string }

// ErrReset says that the peer reset the stream, or closed the connection,
// instead of answering.
var ErrReset = errors.New("stream was reset or the connection closed")

// Frame types and flags of RFC 9113 section 6.
const (
	frameData     = 0
	frameHeaders  = 1
	frameReset    = 3
	frameSettings = 4
	framePing     = 6
	frameGoAway   = 7

	flagEndStream  = 1
	flagAck        = 1
	flagEndHeaders = 4
	flagPadded     = 8
	flagPriority   = 32
)

// RawHTTP2 sends one request over a connection of its own, with exactly these
// fields in this order, whatever they are: libraries refuse to send what the
// tests are about. It reads status and body of the answer, and no other field:
// those would need all of HPACK.
func RawHTTP2(ctx context.Context, addr string, fields []Field, body string) (Answer, error) {
	conn, err := dial(ctx, addr)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = conn.Close() }()

	out := bytes.NewBufferString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	// SETTINGS_HEADER_TABLE_SIZE 0 and SETTINGS_ENABLE_PUSH 0.
	writeFrame(out, frameSettings, 0, 0, []byte{0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0})
	flags := byte(flagEndHeaders)
	if body == "" {
		flags |= flagEndStream
	}
	writeFrame(out, frameHeaders, flags, 1, encodeFields(fields))
	if body != "" {
		writeFrame(out, frameData, flagEndStream, 1, []byte(body))
	}
	_, _ = conn.Write(out.Bytes()) // a peer that refuses the first bytes need not take the others

	var a Answer
	for {
		typ, flags, stream, payload, err := readFrame(conn)
		switch {
		case err != nil:
			return a, fmt.Errorf("%w: %w", ErrReset, err)
		case typ == frameGoAway, typ == frameReset && stream == 1:
			return a, ErrReset
		case typ == framePing && flags&flagAck == 0:
			var pong bytes.Buffer
			writeFrame(&pong, framePing, flagAck, 0, payload)
			_, _ = conn.Write(pong.Bytes()) // the next read finds out
		case typ == frameHeaders && stream == 1 && a.Status == 0:
			if a.Status, err = decodeStatus(unpad(flags, payload)); err != nil {
				return a, err
			}
		case typ == frameData && stream == 1:
			a.Body += string(unpad(flags, payload))
		}
		if stream == 1 && (typ == frameHeaders || typ == frameData) && flags&flagEndStream != 0 {
			return a, nil
		}
	}
}

func writeFrame(b *bytes.Buffer, typ, flags byte, stream uint32, payload []byte) {
	head := [9]byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), typ, flags}
	binary.BigEndian.PutUint32(head[5:], stream)
	b.Write(head[:])
	b.Write(payload)
}

func readFrame(r io.Reader) (typ, flags byte, stream uint32, payload []byte, err error) {
	var head [9]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, 0, 0, nil, err
	}
	payload = make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
	_, err = io.ReadFull(r, payload)
	return head[3], head[4], binary.BigEndian.Uint32(head[5:]) &^ (1 << 31), payload, err
}

func unpad(flags byte, p []byte) []byte {
	var pad int
	if flags&flagPadded != 0 && len(p) > 0 {
		pad, p = int(p[0]), p[1:]
	}
	if flags&flagPriority != 0 && len(p) >= 5 {
		p = p[5:]
	}
	return p[:max(0, len(p)-pad)]
}

// encodeFields writes each field as a literal that is not indexed, without
// Huffman code (RFC 7541 section 6.2.2).
func encodeFields(fields []Field) []byte {
	var b []byte
	text := func(s string) {
		b = appendInteger(b, 0, 7, len(s))
		b = append(b, s...)
	}
	for _, f := range fields {
		b = append(b, 0)
		text(f.Name)
		text(f.Value)
	}
	return b
}

// appendInteger writes an integer after the given first bits, RFC 7541 section
// 5.1.
func appendInteger(b []byte, first byte, bits, n int) []byte {
	most := 1<<bits - 1
	if n < most {
		return append(b, first|byte(n))
	}
	b = append(b, first|byte(most))
	for n -= most; n >= 128; n >>= 7 {
		b = append(b, byte(n)|128)
	}
	return append(b, byte(n))
}

// decodeStatus reads the first field of a response, which is its status.
func decodeStatus(p []byte) (int, error) {
	for len(p) > 0 && p[0]>>5 == 1 { // a change of the table's size
		p = p[1:]
	}
	if len(p) == 0 {
		return 0, errors.New("response without fields")
	}
	// RFC 7541 appendix A: the static table has seven statuses.
	if known := [...]int{200, 204, 206, 304, 400, 404, 500}; p[0] >= 0x88 && p[0] <= 0x8E {
		return known[p[0]-0x88], nil
	}
	// A literal, in one of three ways, named by an entry of that table.
	index := p[0] & 15
	if p[0]>>6 == 1 {
		index = p[0] & 63
	}
	if index < 8 || index > 14 || len(p) < 2 {
		return 0, fmt.Errorf("response does not begin with its status: % x", p[:min(8, len(p))])
	}
	size := int(p[1] & 127)
	if len(p) < 2+size {
		return 0, errors.New("status is cut off")
	}
	digits := p[2 : 2+size]
	if p[1]&128 == 0 {
		return number(digits)
	}
	return huffmanDigits(digits)
}

func number(digits []byte) (n int, err error) {
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, fmt.Errorf("status %q is no number", digits)
		}
		n = n*10 + int(d-'0')
	}
	return n, nil
}

// huffmanDigits reads the digits of RFC 7541 appendix B: 0, 1 and 2 have five
// bits, 00000 to 00010; 3 to 9 have six, 011001 to 011111. A status has three.
func huffmanDigits(p []byte) (n int, err error) {
	var bits uint64
	for _, c := range p {
		bits = bits<<8 | uint64(c)
	}
	left := len(p) * 8
	for range 3 {
		switch {
		case left >= 5 && bits>>(left-5)&31 <= 2:
			n = n*10 + int(bits>>(left-5)&31)
			left -= 5
		case left >= 6 && bits>>(left-6)&63 >= 25 && bits>>(left-6)&63 <= 31:
			n = n*10 + int(bits>>(left-6)&63) - 25 + 3
			left -= 6
		default:
			return 0, fmt.Errorf("status is no number: % x", p)
		}
	}
	return n, nil
}
