// The client of grpc-go: see __init__.py.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// plain gives and takes messages as they are.
type plain struct{}

func (plain) Marshal(v interface{}) ([]byte, error)      { return *v.(*[]byte), nil }
func (plain) Unmarshal(data []byte, v interface{}) error { *v.(*[]byte) = data; return nil }
func (plain) Name() string                               { return "proto" }

type said struct {
	ID        int               `json:"id"`
	Path      string            `json:"path"`
	Message   []byte            `json:"message"`
	Headers   map[string]string `json:"headers"`
	TimeoutMs int               `json:"timeout_ms"`
	Cancel    bool              `json:"cancel"`
}

type ended struct {
	ID      int               `json:"id"`
	Code    int               `json:"code"`
	Text    string            `json:"text"`
	Message []byte            `json:"message"`
	Headers map[string]string `json:"headers"`
}

var (
	lock    sync.Mutex
	cancels = map[int]context.CancelFunc{}
	out     = json.NewEncoder(os.Stdout)
)

func call(conn *grpc.ClientConn, ctx context.Context, it said) {
	var answer []byte
	var came metadata.MD
	ctx = metadata.NewOutgoingContext(ctx, metadata.New(it.Headers))
	err := conn.Invoke(ctx, it.Path, &it.Message, &answer, grpc.ForceCodec(plain{}), grpc.Header(&came))
	headers := map[string]string{}
	for key, values := range came {
		headers[key] = values[0]
	}
	how := status.Convert(err)
	lock.Lock()
	defer lock.Unlock()
	cancels[it.ID]()
	delete(cancels, it.ID)
	out.Encode(ended{it.ID, int(how.Code()), how.Message(), answer, headers})
}

func main() {
	conn, err := grpc.Dial(os.Args[1], grpc.WithInsecure())
	if err != nil {
		panic(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var it said
		if err := json.Unmarshal(lines.Bytes(), &it); err != nil {
			panic(err)
		}
		lock.Lock()
		if it.Cancel {
			if cancel, open := cancels[it.ID]; open {
				cancel()
			}
		} else {
			ctx, cancel := context.WithCancel(context.Background())
			if it.TimeoutMs > 0 {
				ctx, cancel = context.WithTimeout(context.Background(), time.Duration(it.TimeoutMs)*time.Millisecond)
			}
			cancels[it.ID] = cancel
			go call(conn, ctx, it)
		}
		lock.Unlock()
	}
	conn.Close()
}
