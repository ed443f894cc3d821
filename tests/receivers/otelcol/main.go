// Command otelcol is an OpenTelemetry Collector with what receives Splunk's HEC, checks its token and acknowledges. Nothing
// of that is ours; ours is that it prints, one JSON object a line: each batch of logs that arrived (resourceLogs), and what
// was answered whenever somebody asked for acknowledgements (acks).
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/ackextension"
	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/bearertokenauthextension"
	"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/splunkhecreceiver"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

// printer is the exporter. It prints before the sender gets its answer, so nothing that was answered is missing from what
// a killed collector printed.
type printer struct {
	component.StartFunc
	component.ShutdownFunc
	config *config
}

type config struct {
	// Delay is between printing and answering: time to be killed in.
	Delay time.Duration `mapstructure:"delay"`
}

func (printer) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (p printer) ConsumeLogs(_ context.Context, logs plog.Logs) error {
	line, err := (&plog.JSONMarshaler{}).MarshalLogs(logs)
	if err != nil {
		return err
	}
	if _, err = os.Stdout.Write(append(line, '\n')); err != nil {
		return err
	}
	time.Sleep(p.config.Delay)
	return nil
}

func createPrinter(_ context.Context, _ exporter.Settings, settings component.Config) (exporter.Logs, error) {
	return printer{config: settings.(*config)}, nil
}

// printedAcks is the acknowledgement extension as it is, its answers printed.
type printedAcks struct {
	extension.Extension
	ackextension.AckExtension
}

func (p printedAcks) QueryAcks(channel string, ids []uint64) map[uint64]bool {
	acks := p.AckExtension.QueryAcks(channel, ids)
	line, err := json.Marshal(map[string]any{"acks": acks})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", line)
	return acks
}

func createAcks(ctx context.Context, set extension.Settings, settings component.Config) (extension.Extension, error) {
	made, err := ackextension.NewFactory().Create(ctx, set, settings)
	if err != nil {
		return nil, err
	}
	return printedAcks{made, made.(ackextension.AckExtension)}, nil
}

func factories() (otelcol.Factories, error) {
	ack, token, hec := ackextension.NewFactory(), bearertokenauthextension.NewFactory(), splunkhecreceiver.NewFactory()
	printed := component.MustNewType("printer")
	return otelcol.Factories{
		Extensions: map[component.Type]extension.Factory{
			ack.Type():   extension.NewFactory(ack.Type(), ack.CreateDefaultConfig, createAcks, ack.Stability()),
			token.Type(): token,
		},
		Telemetry: otelconftelemetry.NewFactory(),
		Receivers: map[component.Type]receiver.Factory{hec.Type(): hec},
		Exporters: map[component.Type]exporter.Factory{
			printed: exporter.NewFactory(printed, func() component.Config { return &config{} },
				exporter.WithLogs(createPrinter, component.StabilityLevelDevelopment)),
		},
	}, nil
}

func main() {
	command := otelcol.NewCommand(otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "otelcol", Version: "0.157.0"},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			ProviderFactories: []confmap.ProviderFactory{fileprovider.NewFactory()},
			DefaultScheme:     "file",
		}},
	})
	if err := command.Execute(); err != nil {
		log.Fatal(err)
	}
}
