/* Publishes COUNT messages of SIZE bytes to a JetStream subject with the C client's asynchronous publisher, as a
 * benchmark's does: WINDOW under way, each acknowledged, nothing looked after that is not.
 *
 *   nats_publish URL SUBJECT COUNT SIZE WINDOW ids|plain
 *
 * `ids` gives each message a Nats-Msg-Id, so that the stream looks for duplicates.
 * Build: cc -O2 -o nats_publish nats_publish.c -lnats      (Debian: libnats-dev)
 */
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long failed = 0;

static void on_error(jsCtx *js, jsPubAckErr *error, void *closure)
{
    (void)js;
    (void)closure;
    if (failed++ == 0)
        fprintf(stderr, "nats_publish: %s\n", error->ErrText);
}

static void check(natsStatus status, const char *step)
{
    if (status != NATS_OK) {
        fprintf(stderr, "nats_publish: %s: %s\n", step, natsStatus_GetText(status));
        exit(1);
    }
}

int main(int count, char **words)
{
    if (count != 7) {
        fprintf(stderr, "usage: nats_publish URL SUBJECT COUNT SIZE WINDOW ids|plain\n");
        return 2;
    }
    const char *subject = words[2];
    const long messages = atol(words[3]);
    const int size = atoi(words[4]);
    const int with_ids = strcmp(words[6], "ids") == 0;
    char *payload = malloc(size);
    memset(payload, 'x', size);

    /* Of another run, ids would be duplicates, which cost the stream less. */
    const long long run = nats_NowInNanoSeconds();
    natsConnection *connection = NULL;
    jsCtx *js = NULL;
    jsOptions options;
    jsPubOptions publish;
    jsOptions_Init(&options);
    options.PublishAsync.MaxPending = atol(words[5]);
    options.PublishAsync.StallWait = 60000;
    options.PublishAsync.ErrHandler = on_error;
    jsPubOptions_Init(&publish);
    check(natsConnection_ConnectTo(&connection, words[1]), "connect");
    check(natsConnection_JetStream(&js, connection, &options), "JetStream");
    for (long number = 0; number < messages; number++) {
        char id[64];
        snprintf(id, sizeof id, "%lld-%ld", run, number);
        publish.MsgId = with_ids ? id : NULL;
        check(js_PublishAsync(js, subject, payload, size, &publish), "publish");
    }
    publish.MaxWait = 60000;
    check(js_PublishAsyncComplete(js, &publish), "acknowledgements");
    jsCtx_Destroy(js);
    natsConnection_Destroy(connection);
    free(payload);
    return failed != 0;
}
