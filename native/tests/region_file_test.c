/* SPDX-License-Identifier: Apache-2.0
 *
 * Region files, ids, owner words and the attach datagram.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "check.h"
#include "region.h"

static const char *const FILES[] = {"made", "race", "bad", "short", "fifo", "socket", "absent", NULL};

static void test_created_whole(void)
{
    mode_t before = umask(077);
    CHECK_EQUAL(mica_region_create(check_path("made"), MICA_REGION_USAGE, "GPU-1", "slice-1", 0666), 0);
    umask(before);
    struct stat status;
    CHECK_EQUAL(stat(check_path("made"), &status), 0);
    CHECK_EQUAL(status.st_size, sizeof(struct mica_usage_region));
    CHECK_EQUAL(status.st_mode & 0777, 0666);
    CHECK((uint64_t)status.st_blocks * 512 >= sizeof(struct mica_usage_region)); /* no store can meet a full file system */

    void *mapping = NULL;
    CHECK_EQUAL(mica_region_map(check_path("made"), MICA_REGION_USAGE, true, &mapping), MICA_REGION_OK);
    struct mica_usage_region *region = mapping;
    char text[65];
    mica_id_unpack(region->header.device_id, text);
    CHECK(strcmp(text, "GPU-1") == 0);
    mica_id_unpack(region->header.slice_id, text);
    CHECK(strcmp(text, "slice-1") == 0);
    CHECK_EQUAL(mica_charge_sum(region, MICA_MEMORY_VRAM), 0);

    atomic_store(&region->gpu_ns, 7);
    CHECK_EQUAL(mica_region_create(check_path("made"), MICA_REGION_USAGE, "GPU-2", "slice-2", 0600), -EEXIST);
    CHECK_EQUAL(atomic_load(&region->gpu_ns), 7);
    CHECK_EQUAL(stat(check_path("made"), &status), 0);
    CHECK_EQUAL(status.st_mode & 0777, 0666);
    mica_region_unmap(region, MICA_REGION_USAGE);
}

static unsigned entries_in_directory(void)
{
    unsigned count = 0;
    DIR *directory = opendir(check_directory);
    while (directory != NULL && readdir(directory) != NULL)
        count++;
    if (directory != NULL)
        closedir(directory);
    return count;
}

static void test_one_creator_wins(void)
{
    enum { CREATORS = 8, ROUNDS = 20 };
    unsigned before = entries_in_directory();
    for (int round = 0; round < ROUNDS; round++) {
        pid_t children[CREATORS];
        for (int i = 0; i < CREATORS; i++) {
            children[i] = fork();
            if (children[i] == 0) {
                int rc = mica_region_create(check_path("race"), MICA_REGION_QUOTA, "GPU-1", NULL, 0644);
                void *region;
                bool whole = mica_region_map(check_path("race"), MICA_REGION_QUOTA, false, &region) == MICA_REGION_OK;
                _exit(!whole ? 2 : rc == 0 ? 0 : rc == -EEXIST ? 1 : 3);
            }
        }
        int made = 0, found = 0;
        for (int i = 0; i < CREATORS; i++) {
            int status = 0;
            waitpid(children[i], &status, 0);
            made += WEXITSTATUS(status) == 0;
            found += WEXITSTATUS(status) == 1;
        }
        CHECK_EQUAL(made, 1);
        CHECK_EQUAL(found, CREATORS - 1);
        unlink(check_path("race"));
    }
    CHECK_EQUAL(entries_in_directory(), before);
}

static void test_bad_arguments(void)
{
    char id[66];
    memset(id, 'x', 65);
    id[65] = '\0';
    CHECK_EQUAL(mica_region_create(check_path("bad"), 9, "GPU-1", NULL, 0644), -EINVAL);
    CHECK_EQUAL(mica_region_create(check_path("bad"), MICA_REGION_USAGE, "GPU-1", NULL, 0644), -EINVAL);
    CHECK_EQUAL(mica_region_create(check_path("bad"), MICA_REGION_QUOTA, "GPU-1", "slice", 0644), -EINVAL);
    CHECK_EQUAL(mica_region_create(check_path("bad"), MICA_REGION_QUOTA, id, NULL, 0644), -EINVAL);
    CHECK_EQUAL(mica_region_create(check_path("absent/file"), MICA_REGION_QUOTA, "GPU-1", NULL, 0644), -ENOENT);
    void *region;
    CHECK_EQUAL(mica_region_map(check_path("absent"), MICA_REGION_QUOTA, false, &region), -ENOENT);
    CHECK_EQUAL(access(check_path("bad"), F_OK), -1);
}

static void test_header_defects(void)
{
    char boot_id[37];
    CHECK_EQUAL(mica_boot_id(boot_id), 0);
    CHECK_EQUAL(mica_region_create(check_path("bad"), MICA_REGION_QUOTA, "GPU-1", NULL, 0644), 0);
    struct mica_region_header good;
    int fd = open(check_path("bad"), O_RDONLY);
    CHECK_EQUAL(pread(fd, &good, sizeof good, 0), sizeof good);
    close(fd);
    unlink(check_path("bad"));
    uint64_t size = sizeof(struct mica_quota_region);
    CHECK_EQUAL(mica_region_check(&good, size, MICA_REGION_QUOTA, boot_id), MICA_REGION_OK);
    CHECK_EQUAL(mica_region_check(&good, size + 1, MICA_REGION_QUOTA, NULL), MICA_REGION_OK);
    CHECK_EQUAL(mica_region_check(&good, 255, MICA_REGION_QUOTA, boot_id), MICA_REGION_TRUNCATED);
    CHECK_EQUAL(mica_region_check(&good, size - 1, MICA_REGION_QUOTA, boot_id), MICA_REGION_TRUNCATED);
    CHECK_EQUAL(mica_region_check(&good, size, MICA_REGION_USAGE, boot_id), MICA_REGION_WRONG_KIND);
    CHECK_EQUAL(mica_region_check(&good, size, MICA_REGION_QUOTA, "00000000-0000-0000-0000-000000000000"), MICA_REGION_OTHER_BOOT);

    const struct {
        size_t offset;
        uint64_t value;
        int defect;
    } damages[] = {
        {offsetof(struct mica_region_header, magic), MICA_REGION_MAGIC + 1, MICA_REGION_FOREIGN},
        {offsetof(struct mica_region_header, layout_version), 0, MICA_REGION_FOREIGN},
        {offsetof(struct mica_region_header, layout_version), MICA_LAYOUT_VERSION + 1, MICA_REGION_FUTURE},
        {offsetof(struct mica_region_header, layout_version), 1, MICA_REGION_PAST},
        {offsetof(struct mica_region_header, kind), 0, MICA_REGION_WRONG_KIND},
        {offsetof(struct mica_region_header, size_bytes), size - 8, MICA_REGION_FOREIGN},
        {offsetof(struct mica_region_header, boot_id), 0, MICA_REGION_OTHER_BOOT},
    };
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        struct mica_region_header bad = good;
        memcpy((char *)&bad + damages[i].offset, &damages[i].value, sizeof damages[i].value);
        CHECK_EQUAL(mica_region_check(&bad, size, MICA_REGION_QUOTA, boot_id), damages[i].defect);
        CHECK(strlen(mica_region_defect_text(damages[i].defect)) > 0);
    }
}

static void test_unusable_files(void)
{
    void *region = NULL;
    CHECK_EQUAL(mica_region_create(check_path("short"), MICA_REGION_USAGE, "GPU-1", "s", 0600), 0);
    struct mica_usage_region copy;
    for (off_t size = sizeof copy - 1; size >= 0; size = size / 2 - (size == 0)) {
        CHECK_EQUAL(truncate(check_path("short"), size), 0);
        CHECK_EQUAL(mica_region_map(check_path("short"), MICA_REGION_USAGE, true, &region), MICA_REGION_TRUNCATED);
        int fd = open(check_path("short"), O_RDWR);
        CHECK_EQUAL(mica_usage_pread(fd, &copy), MICA_REGION_TRUNCATED);
        close(fd);
    }
    CHECK_EQUAL(mkfifo(check_path("fifo"), 0600), 0);
    CHECK_EQUAL(mica_region_map(check_path("fifo"), MICA_REGION_USAGE, false, &region), MICA_REGION_FOREIGN);
    CHECK_EQUAL(mica_region_map(check_directory, MICA_REGION_USAGE, false, &region), MICA_REGION_FOREIGN);
    CHECK(region == NULL);
}

static void test_ids_keep_64_bytes(void)
{
    char full[65], back[65];
    for (int i = 0; i < 64; i++)
        full[i] = (char)('!' + i);
    full[64] = '\0';
    uint64_t words[MICA_ID_WORDS];
    mica_id_pack(full, words);
    mica_id_unpack(words, back);
    CHECK(strcmp(full, back) == 0);
    mica_id_pack("ab", words);
    CHECK_EQUAL(words[0], 'a' | 'b' << 8);
    for (int i = 1; i < MICA_ID_WORDS; i++)
        CHECK_EQUAL(words[i], 0);
}

static void test_owner_of_a_badly_named_process(void)
{
    uint64_t owner = mica_owner_self();
    CHECK_EQUAL(owner >> 56, 1);
    CHECK_EQUAL(owner & ((1ULL << MICA_OWNER_PID_BITS) - 1), getpid());
    CHECK((owner >> MICA_OWNER_PID_BITS & ((1ULL << MICA_OWNER_START_BITS) - 1)) != 0);
    prctl(PR_SET_NAME, ") S 1 (x) 2 3", 0, 0, 0);
    CHECK_EQUAL(mica_owner_self(), owner);
    prctl(PR_SET_NAME, "region_test", 0, 0, 0);
}

static int listener_open(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", check_path("socket"));
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    CHECK_EQUAL(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQUAL(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
    return fd;
}

static void test_attach_carries_credentials(void)
{
    int fd = listener_open();
    struct mica_attach_message sent, got;
    mica_attach_fill(&sent, mica_owner_self(), 5, "slice-1", "GPU-1");
    CHECK_EQUAL(mica_attach_send(check_path("socket"), &sent), 0);

    char control[CMSG_SPACE(sizeof(struct ucred))] __attribute__((aligned(8)));
    struct iovec part = {&got, sizeof got};
    struct msghdr envelope = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK_EQUAL(recvmsg(fd, &envelope, 0), sizeof got);
    CHECK(memcmp(&sent, &got, sizeof got) == 0);
    struct ucred credentials = {0};
    struct cmsghdr *header = CMSG_FIRSTHDR(&envelope);
    CHECK(header != NULL && header->cmsg_type == SCM_CREDENTIALS);
    if (header != NULL)
        memcpy(&credentials, CMSG_DATA(header), sizeof credentials);
    CHECK_EQUAL(credentials.pid, getpid());
    CHECK_EQUAL(credentials.uid, getuid());

    int rc = 0;
    for (int i = 0; i < 100000 && rc == 0; i++)
        rc = mica_attach_send(check_path("socket"), &sent);
    CHECK_EQUAL(rc, -EAGAIN); /* nobody reads: the sender is told, and does not wait */
    close(fd);
    CHECK_EQUAL(mica_attach_send(check_path("socket"), &sent), -ECONNREFUSED);
    CHECK_EQUAL(mica_attach_send(check_path("absent"), &sent), -ENOENT);
    char name[200];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    CHECK_EQUAL(mica_attach_send(name, &sent), -ENAMETOOLONG);
}

int main(void)
{
    check_path("made");
    check_run(test_created_whole, "a region is created whole, in spite of the umask, and an existing one is left alone");
    check_run(test_one_creator_wins, "of many creators one wins, the file is whole for all of them, and nothing is left behind");
    check_run(test_bad_arguments, "a wrong kind, a wrong or missing id and a missing directory are refused and leave no file");
    check_run(test_header_defects, "every kind of header defect is told apart");
    check_run(test_unusable_files, "a truncated file, a FIFO and a directory are refused without mapping or waiting");
    check_run(test_ids_keep_64_bytes, "an id keeps all of its 64 bytes, and a short one is padded with zeros");
    check_run(test_owner_of_a_badly_named_process, "a process's name cannot disturb its owner word");
    check_run(test_attach_carries_credentials, "an attach message arrives with the sender's credentials, and its sender never waits");
    check_remove(FILES);
    return check_finish();
}
